"""Population stability index: how far binned data moved from its reference, and how much of that is sampling noise.

Karakoulas, "Empirical validation of retail credit-scoring models", RMA Journal (2004); its distribution under no drift:
Yurdakul, "Statistical Properties of Population Stability Index", Western Michigan University (2018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, counts_pair


def psi(reference: ArrayLike, current: ArrayLike, *, pseudo: float = 0.5) -> float:
    """``sum((c - r) * ln(c / r))`` over bins, from counts (k,) over the same bins. >= 0, symmetric for equal totals.

    ``pseudo`` is added to every count (0.5 = Jeffreys' prior). Without it one empty bin makes PSI infinite, and with a
    tiny constant instead it makes PSI arbitrary: a bin with a share of 0.01 gone empty would add 7 at 1e-308 and 0.05
    at 1e-4. Half an observation keeps it finite, and smaller the less data there is. NaN when either side is empty.
    Usual reading: below 0.1 stable, above 0.25 moved; see ``psi_noise`` before believing it on few rows.

    >>> psi([50, 50], [50, 50]), round(psi([500, 500], [700, 300]), 3)
    (0.0, 0.169)
    """
    if pseudo <= 0:
        raise InvalidInput(f"pseudo count {pseudo}", where="psi", cure="use a positive number, 0.5 by default")
    r, c = counts_pair(reference, current)
    if not r.sum() or not c.sum():
        return NAN
    r, c = (r + pseudo) / (r + pseudo).sum(), (c + pseudo) / (c + pseudo).sum()
    return float(((c - r) * np.log(c / r)).sum())


def psi_noise(n_reference: int, n_current: int, bins: int) -> float:
    """Expected PSI when nothing moved: about ``(bins - 1) * (1 / n_reference + 1 / n_current)``.

    Under no drift PSI / (1/n + 1/m) is approximately chi-square with bins - 1 degrees of freedom (Yurdakul 2018).
    Good when every bin expects some 5 rows or more; with fewer the smoothed PSI stays below it.

    >>> round(psi_noise(10_000, 200, 20), 4)
    0.0969
    """
    return (bins - 1) * _scale(n_reference, n_current, bins)


def psi_critical(n_reference: int, n_current: int, bins: int, confidence: float = 0.99) -> float:
    """PSI that no-drift data of this size exceeds with probability ``1 - confidence`` (same approximation).

    >>> round(psi_critical(10_000, 200, 20), 3), round(psi_critical(10_000, 5_000, 20), 3)
    (0.185, 0.011)
    """
    from scipy.special import chdtri

    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence {confidence}", where="psi", cure="use a number in (0, 1)")
    return float(chdtri(bins - 1, 1 - confidence)) * _scale(n_reference, n_current, bins) if bins > 1 else 0.0


def psi_minimum_sample(n_reference: int, bins: int, limit: float, confidence: float = 0.99) -> float:
    """Current rows from which ``limit`` stands above the noise: ``psi_critical <= limit``. inf when no size suffices.

    >>> round(psi_minimum_sample(10_000, 20, 0.1))
    376
    """
    room = limit / psi_critical(1, 1, bins, confidence) * 2 - 1 / n_reference if bins > 1 else np.inf
    return float(np.ceil(1 / room)) if room > 0 else float("inf")


def _scale(n_reference: int, n_current: int, bins: int) -> float:
    if min(n_reference, n_current, bins) < 1:
        raise InvalidInput(
            f"{n_reference} reference rows, {n_current} current rows, {bins} bins", where="psi", cure="use at least 1"
        )
    return 1 / n_reference + 1 / n_current
