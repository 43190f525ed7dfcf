"""Kolmogorov-Smirnov distance: the largest gap between two cumulative distributions, and its p-value.

Smirnov, "Table for estimating the goodness of fit of empirical distributions", Ann. Math. Stat. 19 (1948); small-sample
correction of the p-value: Stephens, "Use of the Kolmogorov-Smirnov ... statistics without extensive tables",
JRSS B 32 (1970).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, counts_pair, sample, vector


class KolmogorovSmirnov(NamedTuple):
    """The gap in [0, 1] and the probability of one at least as large when nothing moved."""

    statistic: float
    p_value: float


def from_samples(reference: ArrayLike, current: ArrayLike) -> KolmogorovSmirnov:
    """Exact statistic of two samples (n,), (m,); NaN entries are dropped. O((n + m) log). NaN when a side is empty.

    >>> from_samples([1, 2, 3, 4], [3, 4, 5, 6]).statistic
    0.5
    """
    r, c = np.sort(sample(reference, "reference")), np.sort(sample(current, "current"))
    if not r.size or not c.size:
        return KolmogorovSmirnov(NAN, NAN)
    at = np.concatenate([r, c])
    gap = np.searchsorted(r, at, "right") / r.size - np.searchsorted(c, at, "right") / c.size
    return _judged(float(np.abs(gap).max()), r.size, c.size)


def from_counts(reference: ArrayLike, current: ArrayLike) -> KolmogorovSmirnov:
    """Statistic seen at the bin edges, from ordered counts (k,) over the same bins.

    Never above the exact one and at most the largest bin share below it, so the p-value errs to "no drift".

    >>> from_counts([2, 2, 0], [0, 2, 2]).statistic
    0.5
    """
    r, c = counts_pair(reference, current)
    if not r.sum() or not c.sum():
        return KolmogorovSmirnov(NAN, NAN)
    gap = np.cumsum(r) / r.sum() - np.cumsum(c) / c.sum()
    return _judged(float(np.abs(gap).max()), int(r.sum()), int(c.sum()))


def from_quantiles(quantiles: ArrayLike, n_reference: int, current: ArrayLike) -> KolmogorovSmirnov:
    """Statistic of a sample (m,) against a reference kept as q quantiles at equal steps of probability from 0 to 1.

    The reference is linear between its quantiles; for continuous data the statistic is within 1 / (q - 1) of exact.
    InvalidInput for fewer than two quantiles, unsorted ones or n_reference < 1.

    >>> from_quantiles([0.0, 0.5, 1.0], 100, [0.5, 0.75, 1.0, 1.0]).statistic
    0.5
    """
    q, c = vector(quantiles, "quantiles"), np.sort(sample(current, "current"))
    if q.size < 2 or (np.diff(q) < 0).any():
        raise InvalidInput("quantiles are fewer than two or not sorted", where="kolmogorov_smirnov", cure="sort them")
    if n_reference < 1:
        raise InvalidInput(f"{n_reference} reference rows", where="kolmogorov_smirnov", cure="use at least 1")
    if not c.size:
        return KolmogorovSmirnov(NAN, NAN)
    levels, at = np.linspace(0, 1, q.size), np.concatenate([q, c])
    # Where quantiles are tied the reference jumps: compare just after the jump and just before it.
    after = np.interp(at, q, levels, left=0.0, right=1.0) - np.searchsorted(c, at, "right") / c.size
    mirrored = np.interp(-at, -q[::-1], 1 - levels[::-1], left=0.0, right=1.0)
    before = (1 - mirrored) - np.searchsorted(c, at, "left") / c.size
    return _judged(float(max(np.abs(after).max(), np.abs(before).max())), n_reference, c.size)


def kolmogorov_noise(n_reference: int, n_current: int) -> float:
    """The gap expected when nothing moved: the mean of Kolmogorov's distribution, ``sqrt(pi / 2) * ln 2``, times ``sqrt(1 / n + 1 / m)``.

    >>> round(kolmogorov_noise(10_000, 1_000), 4)
    0.0288
    """
    return float(np.sqrt(np.pi / 2) * np.log(2) * np.sqrt(1 / n_reference + 1 / n_current))


def _judged(statistic: float, n: int, m: int) -> KolmogorovSmirnov:
    from scipy.special import kolmogorov

    root = np.sqrt(n * m / (n + m))
    return KolmogorovSmirnov(statistic, float(kolmogorov((root + 0.12 + 0.11 / root) * statistic)))
