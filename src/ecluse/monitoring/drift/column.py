"""One column against its reference: several sizes of effect, each with the sampling noise told apart.

A drift statistic of a finite window is never zero. What is expected of data that did not move is taken off (``effect``), and a value that
such data reach once in a thousand windows is not ``clear``: so a verdict depends on what moved, not on how many rows were looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecluse.core.expression import Value
from ecluse.stats.histogram import count
from ecluse.stats.jensen_shannon import jensen_shannon
from ecluse.stats.mean_shift import mean_shift, mean_shift_noise
from ecluse.stats.psi import psi, psi_critical, psi_noise
from ecluse.stats.reference import CategoryReference, FeatureReference, NumberReference

CONFIDENCE = 0.999
_SIGMAS = 3.29  # two-sided normal quantile of CONFIDENCE
_FEW = 5.0  # bins that expect fewer rows are pooled: the noise approximation needs about so many
_BITS = 8 * math.log(2)  # for small moves the Jensen-Shannon divergence is PSI / (8 ln 2) bits


@dataclass(frozen=True)
class Measured:
    """A statistic of a column: as measured, its size without the expected noise (>= 0), and whether it stands clear of the noise."""

    name: str
    value: float
    effect: float
    clear: bool


def compare(reference: FeatureReference, values: Sequence[Value]) -> tuple[Measured, ...]:
    """All statistics that can be measured of ``values`` (n,), None and NaN missing: ``psi``, ``jensen_shannon``, ``missing``, for numbers
    ``mean_shift`` (reference standard deviations), for categories ``unseen`` (share). O(n log bins).

    >>> from ecluse.stats.reference import describe_column
    >>> plans = describe_column(["a", "b"] * 500, "category")
    >>> [m.name for m in compare(plans, ["a", "z"] * 100) if m.effect > 0.2 and m.clear]
    ['psi', 'jensen_shannon', 'unseen']
    """
    present = [value for value in values if not is_missing(value)]
    shared = _missing(reference, len(values) - len(present), len(values))
    if isinstance(reference, NumberReference):
        numbers = np.array(present, dtype=np.float64)
        bins = count(numbers, list(reference.edges)).counts
        return (*_distances(reference.counts, bins), *_mean(reference, numbers), *shared)
    counts = Counter(_text(value) for value in present)
    return (*_distances(*pooled(reference.counts, counts)), *shared, *_unseen(reference, counts))


def is_missing(value: Value) -> bool:
    """None or NaN."""
    return value is None or (isinstance(value, float) and value != value)


def pooled(reference: Mapping[str, int], current: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Counts over the same bins: a bin a category, those that expect few rows in the window pooled with those never seen into the last.

    >>> pooled({"a": 90, "b": 10}, {"a": 80, "b": 15, "c": 5})
    ([90, 10, 0], [80, 15, 5])
    """
    total, rows = max(sum(reference.values()), 1), sum(current.values())
    kept = [name for name, seen in reference.items() if seen / total * rows >= _FEW]
    known, now = [reference[name] for name in kept], [current.get(name, 0) for name in kept]
    rest = sum(reference.values()) - sum(known), rows - sum(now)
    return ([*known, rest[0]], [*now, rest[1]]) if any(rest) or not kept else (known, now)


def _text(value: Value) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _distances(reference: Sequence[int], current: Sequence[int]) -> tuple[Measured, ...]:
    n, m, bins = sum(reference), sum(current), len(reference)
    if not n or not m or bins < 2:
        return ()
    noise, critical = psi_noise(n, m, bins), psi_critical(n, m, bins, CONFIDENCE)
    moved, distance = psi(reference, current), jensen_shannon(reference, current)
    rest = math.sqrt(max(distance**2 - noise / _BITS, 0.0))
    return (
        Measured("psi", moved, max(moved - noise, 0.0), moved > critical),
        Measured("jensen_shannon", distance, rest, distance**2 > critical / _BITS),
    )


def _mean(reference: NumberReference, numbers: np.ndarray) -> tuple[Measured, ...]:
    finite = numbers[np.isfinite(numbers)]
    if not reference.sd or reference.mean is None or not finite.size:
        return ()  # of a column that was constant any move is infinitely many deviations: the distances speak for it
    shift = mean_shift(reference.mean, reference.sd, finite)
    noise = mean_shift_noise(sum(reference.counts), finite.size)
    return (Measured("mean_shift", shift, math.sqrt(max(shift**2 - noise**2, 0.0)), abs(shift) > _SIGMAS * noise),)


def _missing(reference: FeatureReference, missing: int, rows: int) -> tuple[Measured, ...]:
    if not rows or not reference.rows:
        return ()
    change, noise = share_change(reference.missing, reference.rows, missing, rows)
    return (Measured("missing", change, abs(change), abs(change) > _SIGMAS * noise),)


def share_change(before: int, n: int, now: int, m: int) -> tuple[float, float]:
    """Change of a share from ``before / n`` to ``now / m``, and the standard deviation it has when nothing changed (pooled, with Jeffreys'
    half a row each, so that a share of 0 is not taken for certain).

    >>> change, noise = share_change(10, 1_000, 30, 1_000)
    >>> round(change, 3), round(noise, 4)
    (0.02, 0.0063)
    """
    pool = (before + now + 0.5) / (n + m + 1)
    return now / m - before / n, math.sqrt(pool * (1 - pool) * (1 / n + 1 / m))


def _unseen(reference: CategoryReference, counts: Mapping[str, int]) -> tuple[Measured, ...]:
    rows = sum(counts.values())
    if not rows or not reference.counts:
        return ()
    share = sum(seen for name, seen in counts.items() if name not in reference.counts) / rows
    # Good (1953), "The population frequencies of species": values seen once tell how often to expect one never seen.
    expected = sum(seen == 1 for seen in reference.counts.values()) / max(sum(reference.counts.values()), 1)
    return (Measured("unseen", share, max(share - expected, 0.0), share > 0),)
