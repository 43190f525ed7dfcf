"""Chi-square test of homogeneity: whether two count vectors could come from one distribution over categories.

Pearson, Philosophical Magazine 50 (1900); effect size: Cramér, "Mathematical Methods of Statistics" (1946). V of a table with rows of very
different size shrinks with the larger one; ``balanced_v`` weighs both alike (the triangular discrimination of Topsøe, IEEE Trans. Inf. Theory
46 (2000)), so that it is a size of effect for windows of any length.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ecluse.stats.arrays import NAN, counts_pair


class ChiSquare(NamedTuple):
    """Statistic, its degrees of freedom, p-value, and Cramér's V in [0, 1]: the effect, whatever the sample size."""

    statistic: float
    freedom: int
    p_value: float
    cramers_v: float


def chi_square(reference: ArrayLike, current: ArrayLike) -> ChiSquare:
    """Test of counts (k,) over the same categories; categories seen on neither side are left out.

    The p-value is asymptotic: merge categories that expect fewer than some 5 rows. NaN when a side is empty.

    >>> chi_square([50, 50], [50, 50])
    ChiSquare(statistic=0.0, freedom=1, p_value=1.0, cramers_v=0.0)
    """
    from scipy.special import chdtrc

    r, c = counts_pair(reference, current)
    if not r.sum() or not c.sum():
        return ChiSquare(NAN, 0, NAN, NAN)
    table = np.stack([r, c])[:, r + c > 0]
    rows = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / rows
    statistic, freedom = float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1
    if freedom == 0:
        return ChiSquare(0.0, 0, 1.0, 0.0)
    return ChiSquare(statistic, freedom, float(chdtrc(freedom, statistic)), min(1.0, float(np.sqrt(statistic / rows))))


def balanced_v(reference: ArrayLike, current: ArrayLike) -> float:
    """Cramér's V in [0, 1] that counts (k,) with these shares would have if both sides held equally many rows. NaN when a side is empty.

    >>> balanced_v([500, 500], [50, 50]), balanced_v([10, 0], [0, 99_000]), round(balanced_v([500, 500], [70, 30]), 3)
    (0.0, 1.0, 0.204)
    """
    r, c = counts_pair(reference, current)
    if not r.sum() or not c.sum():
        return NAN
    r, c = r / r.sum(), c / c.sum()
    both = r + c
    used = both > 0
    return min(1.0, float(np.sqrt(((r - c)[used] ** 2 / both[used]).sum() / 2)))


def balanced_v_noise(n_reference: int, n_current: int, bins: int) -> float:
    """Root of the expected square of ``balanced_v`` when nothing moved: ``sqrt((bins - 1) * (1 / n + 1 / m)) / 2``.

    >>> round(balanced_v_noise(10_000, 1_000, 5), 3)
    0.033
    """
    return float(np.sqrt((bins - 1) * (1 / n_reference + 1 / n_current)) / 2)
