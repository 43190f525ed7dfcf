"""Mann-Kendall test: does a short series rise or fall, whatever the shape of its noise? And by how much a step?

Mann, "Nonparametric tests against trend", Econometrica 13 (1945); exact null distribution and ties: Kendall, "Rank Correlation Methods"
(1975); the slope: Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, Floats, sample
from ecluse.stats.z_test import two_sided

EXACT = 10
"""Series up to this length get the exact p-value; longer ones the normal approximation."""


class Trend(NamedTuple):
    """Kendall's tau in [-1, 1], the two-sided p-value of no trend, and Sen's slope: the median change a step."""

    tau: float
    p_value: float
    slope: float


def mann_kendall(series: ArrayLike) -> Trend:
    """The trend of a series (n,) in its order; NaN entries are dropped. NaN for fewer than four values: they can prove nothing. O(n²).

    The entries must be independent but for the trend: windows that overlap are not. Raises InvalidInput for an infinite value.

    >>> mann_kendall([1.0, 2.0, 4.0, 5.0, 9.0, 11.0]).p_value < 0.01
    True
    >>> mann_kendall([3.0, 1.0, 2.0, 3.0, 1.0]).tau, mann_kendall([1.0, 3.0, 5.0, 7.0]).slope
    (-0.2, 2.0)
    """
    x = sample(series)
    if not np.isfinite(x).all():
        raise InvalidInput("a value is infinite", where="mann_kendall", cure="leave it out")
    n = x.size
    if n < 4:
        return Trend(NAN, NAN, NAN)
    i, j = np.triu_indices(n, 1)
    score = int(np.sign(x[j] - x[i]).sum())
    slope = float(np.median((x[j] - x[i]) / (j - i)))
    tied = np.unique(x).size < n
    p = _normal(score, x) if tied or n > EXACT else _exact(score, n)
    return Trend(2 * score / (n * (n - 1)), p, slope)


def _exact(score: int, n: int) -> float:
    """Two-sided p-value out of the number of inversions of random orders."""
    counts = _inversions(n)
    pairs = n * (n - 1) // 2
    least = (pairs - abs(score)) // 2
    return min(1.0, 2 * sum(counts[: least + 1]) / sum(counts))


@lru_cache(maxsize=EXACT)
def _inversions(n: int) -> tuple[int, ...]:
    """How many orders of n things have 0, 1, 2, … inversions."""
    counts = [1]
    for size in range(2, n + 1):
        longer = [0] * (len(counts) + size - 1)
        for place, many in enumerate(counts):
            for step in range(size):
                longer[place + step] += many
        counts = longer
    return tuple(counts)


def _normal(score: int, x: Floats) -> float:
    ties = np.unique(x, return_counts=True)[1].astype(np.float64)
    n = float(x.size)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0:
        return 1.0
    return two_sided(float(np.sign(score)) * max(abs(score) - 1, 0) / float(np.sqrt(variance)))
