"""One column against its reference: several sizes of effect, each with the sampling noise told apart.

A drift statistic of a finite window is never zero. What is expected of data that did not move is taken off (``effect``), and beside each size
stands the probability of one as large when nothing moved (``p_value``): a verdict asks both, so it depends on what moved, not on how many
rows were looked at. Statistics of the same shape share one test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecluse.core.expression import Value
from ecluse.monitoring.drift.counts import ColumnCounts, coarse, count_values
from ecluse.stats import chi_square, kolmogorov_smirnov, wasserstein, z_test
from ecluse.stats.jensen_shannon import jensen_shannon
from ecluse.stats.mean_shift import mean_shift_noise
from ecluse.stats.psi import psi, psi_noise
from ecluse.stats.reference import CategoryReference, FeatureReference, NumberReference

CLEAR = 0.001
_FEW = 5.0  # bins that expect fewer rows are pooled: the tests are asymptotic
_BITS = 8 * math.log(2)  # for small moves the Jensen-Shannon divergence is PSI / (8 ln 2) bits


@dataclass(frozen=True)
class Measured:
    """A statistic of a column: as measured, its size without the expected noise (>= 0), and the p-value of its ``test``."""

    name: str
    value: float
    effect: float
    p_value: float
    test: str

    @property
    def clear(self) -> bool:
        """Whether unmoved data reach it less than once in a thousand windows."""
        return self.p_value < CLEAR


def compare(reference: FeatureReference, values: Sequence[Value]) -> tuple[Measured, ...]:
    """:func:`measure` of values (n,), None and NaN missing. O(n log bins).

    >>> from ecluse.stats.reference import describe_column
    >>> plans = describe_column(["a", "b"] * 500, "category")
    >>> [m.name for m in compare(plans, ["a", "z"] * 100) if m.effect > 0.2 and m.clear]
    ['psi', 'jensen_shannon', 'cramers_v', 'unseen']
    """
    return measure(reference, count_values(reference, values))


def measure(reference: FeatureReference, counts: ColumnCounts) -> tuple[Measured, ...]:
    """All statistics that can be measured of a column's counts: ``psi``, ``jensen_shannon``, ``missing``; for numbers ``mean_shift`` and
    ``wasserstein`` (reference standard deviations) and ``ks``; for categories ``cramers_v`` and ``unseen`` (share). O(bins).
    """
    shared = _missing(reference, counts)
    if isinstance(reference, NumberReference):
        before, now = merged(reference.counts, coarse(reference, counts.bins))
        return (*_distances(before, now), *_shape(reference, counts), *_mean(reference, counts), *shared)
    before, now = pooled(reference.counts, counts.categories, counts.unseen)
    return (*_distances(before, now), *_association(before, now), *shared, *_unseen(reference, counts))


def pooled(reference: Mapping[str, int], current: Mapping[str, int], unseen: int = 0) -> tuple[list[int], list[int]]:
    """Counts over the same bins: a bin a category, those that expect few rows in the window pooled with those never seen into the last.

    >>> pooled({"a": 90, "b": 10}, {"a": 80, "b": 15, "c": 5})
    ([90, 10, 0], [80, 15, 5])
    """
    total, rows = max(sum(reference.values()), 1), sum(current.values()) + unseen
    kept = [name for name, seen in reference.items() if seen / total * rows >= _FEW]
    known, now = [reference[name] for name in kept], [current.get(name, 0) for name in kept]
    rest = sum(reference.values()) - sum(known), rows - sum(now)
    return ([*known, rest[0]], [*now, rest[1]]) if any(rest) or not kept else (known, now)


def merged(reference: Sequence[int], current: Sequence[int]) -> tuple[list[int], list[int]]:
    """Ordered bins, neighbours put together until each expects enough rows in the window and held enough in the reference.

    A bin that was empty in the reference by design (beside a constant) stays: what falls into it is what moved.

    >>> merged([50, 2, 48], [500, 20, 480]), merged([50, 50], [2, 2])
    (([50, 50], [500, 500]), ([100], [4]))
    """
    total, rows = max(sum(reference), 1), sum(current)
    before, now = [0], [0]
    for seen, many in zip(reference, current, strict=True):
        few = 0 < min(before[-1], before[-1] / total * rows) < _FEW
        if before[-1] + now[-1] and not few:
            before.append(0)
            now.append(0)
        before[-1] += seen
        now[-1] += many
    if len(before) > 1 and 0 < min(before[-1], before[-1] / total * rows) < _FEW:
        last = before.pop(), now.pop()
        before[-1], now[-1] = before[-1] + last[0], now[-1] + last[1]
    return before, now


def _distances(reference: Sequence[int], current: Sequence[int]) -> tuple[Measured, ...]:
    n, m, bins = sum(reference), sum(current), len(reference)
    if not n or not m or bins < 2:
        return ()
    noise, p = psi_noise(n, m, bins), significance(reference, current)
    moved, distance = psi(reference, current), jensen_shannon(reference, current)
    rest = math.sqrt(max(distance**2 - noise / _BITS, 0.0))
    return (
        Measured("psi", moved, max(moved - noise, 0.0), p, "chi_square"),
        Measured("jensen_shannon", distance, rest, p, "chi_square"),
    )


def significance(reference: Sequence[int], current: Sequence[int]) -> float:
    """The p-value of counts over the same bins: chi-square over those that expect enough rows, and of the others together whether they hold
    more than they should, exactly (given how many there are on both sides, where they fall is binomial; Przyborowski & Wilenski 1940).

    >>> significance([1000, 0], [199, 1]) > 0.1, significance([1000, 0], [190, 10]) < 1e-6
    (True, True)
    """
    from scipy.special import bdtrc

    n, m = sum(reference), sum(current)
    often = [place for place, seen in enumerate(reference) if seen >= _FEW and seen / n * m >= _FEW]
    before, now = [reference[place] for place in often], [current[place] for place in often]
    p_values: list[float] = []
    if len(often) > 1 and any(now):
        p_values.append(chi_square.chi_square(before, now).p_value)
    if len(often) < len(reference):
        rest, rest_now = n - sum(before), m - sum(now)
        p_values.append(float(bdtrc(rest_now - 1, rest + rest_now, m / (n + m))) if rest_now else 1.0)
    return min(1.0, len(p_values) * min(p_values))


def _association(reference: Sequence[int], current: Sequence[int]) -> tuple[Measured, ...]:
    n, m, bins = sum(reference), sum(current), len(reference)
    if not n or not m or bins < 2:
        return ()
    v, p = chi_square.balanced_v(reference, current), significance(reference, current)
    return (Measured("cramers_v", v, _less(v, chi_square.balanced_v_noise(n, m, bins)), p, "chi_square"),)


def _shape(reference: NumberReference, counts: ColumnCounts) -> tuple[Measured, ...]:
    """Kolmogorov-Smirnov at the finest edges, and Wasserstein over them in reference deviations."""
    before = reference.fine_counts or reference.counts
    n, m = sum(before), sum(counts.bins)
    if not n or not m or len(before) < 2:
        return ()
    ks = kolmogorov_smirnov.from_counts(before, counts.bins)
    gap = Measured("ks", ks.statistic, _less(ks.statistic, kolmogorov_smirnov.kolmogorov_noise(n, m)), ks.p_value, "ks")
    if not reference.sd or reference.mean is None or reference.low is None or reference.high is None:
        return (gap,)
    if not counts.finite:
        return (gap,)
    edges = reference.fine_edges or reference.edges
    moved = wasserstein.from_counts(edges, before, counts.bins, counts.mean - reference.mean)
    noise = wasserstein.wasserstein_noise([reference.low, *edges, reference.high], before, m)
    moved, noise = moved / reference.sd, noise / reference.sd
    return (gap, Measured("wasserstein", moved, _less(moved, noise), ks.p_value, "ks"))


def _mean(reference: NumberReference, counts: ColumnCounts) -> tuple[Measured, ...]:
    if not reference.sd or reference.mean is None or not counts.finite:
        return ()  # of a column that was constant any move is infinitely many deviations: the distances speak for it
    n = sum(reference.counts)
    shift = (counts.mean - reference.mean) / reference.sd
    p = z_test.means(reference.mean, reference.sd, n, counts.mean, counts.sd, counts.finite).p_value
    return (Measured("mean_shift", shift, _less(shift, mean_shift_noise(n, counts.finite)), p, "mean"),)


def _missing(reference: FeatureReference, counts: ColumnCounts) -> tuple[Measured, ...]:
    if not counts.rows or not reference.rows:
        return ()
    change = counts.missing / counts.rows - reference.missing / reference.rows
    p = z_test.shares(reference.missing, reference.rows, counts.missing, counts.rows).p_value
    return (Measured("missing", change, abs(change), p, "missing"),)


def share_change(before: int, n: int, now: int, m: int) -> tuple[float, float]:
    """Change of a share from ``before / n`` to ``now / m``, and the standard deviation it has when nothing changed (pooled, with Jeffreys'
    half a row each, so that a share of 0 is not taken for certain).

    >>> change, noise = share_change(10, 1_000, 30, 1_000)
    >>> round(change, 3), round(noise, 4)
    (0.02, 0.0063)
    """
    pool = (before + now + 0.5) / (n + m + 1)
    return now / m - before / n, math.sqrt(pool * (1 - pool) * (1 / n + 1 / m))


def _unseen(reference: CategoryReference, counts: ColumnCounts) -> tuple[Measured, ...]:
    from scipy.special import bdtrc

    rows, known = counts.rows - counts.missing, sum(reference.counts.values())
    if not rows or not reference.counts:
        return ()
    share = counts.unseen / rows
    # Good (1953), "The population frequencies of species": values seen once tell how often to expect one never seen.
    once = sum(seen == 1 for seen in reference.counts.values())
    # so many never seen, where as many rows were to show as many that are seen once: see ``significance``
    new = counts.unseen
    p = float(bdtrc(new - 1, new + once, rows / (rows + known))) if new else 1.0
    return (Measured("unseen", share, max(share - once / known, 0.0), p, "unseen"),)


def _less(value: float, noise: float) -> float:
    """A size without its noise: of what is a root of squares, the squares are subtracted."""
    return math.sqrt(max(value**2 - noise**2, 0.0))
