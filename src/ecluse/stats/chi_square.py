"""Chi-square test of homogeneity: whether two count vectors could come from one distribution over categories.

Pearson, Philosophical Magazine 50 (1900); effect size: Cramér, "Mathematical Methods of Statistics" (1946).
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
