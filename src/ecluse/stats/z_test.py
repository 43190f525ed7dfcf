"""z-tests: whether two means, or two shares, differ by more than sampling does.

Means of unequal variances: Welch, "The generalization of Student's problem when several different population variances are involved",
Biometrika 34 (1947), with the normal in place of t (monitors see hundreds of rows). Shares: the pooled test of Fleiss, "Statistical Methods
for Rates and Proportions" (1981), with Jeffreys' half a row, so that a share of 0 is not taken for certain.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ecluse.stats.arrays import NAN


class Z(NamedTuple):
    """The difference in standard errors, and the probability of one at least as large, either way, when nothing moved."""

    z: float
    p_value: float


def two_sided(z: float) -> float:
    """The probability that a standard normal is further from 0 than ``z``.

    >>> round(two_sided(1.96), 3), two_sided(0.0)
    (0.05, 1.0)
    """
    return math.erfc(abs(z) / math.sqrt(2))


def means(mean: float, sd: float, rows: int, now: float, sd_now: float, rows_now: int) -> Z:
    """Whether the mean moved from ``mean`` (of ``rows`` with deviation ``sd``) to ``now``, at the larger of both deviations.

    NaN without rows or without any deviation.

    >>> round(means(10.0, 2.0, 400, 10.5, 2.0, 100).z, 3)
    2.236
    """
    if rows < 1 or rows_now < 1 or not sd + sd_now > 0:
        return Z(NAN, NAN)
    # Of a long tail a window that missed it has a small mean and a small deviation at once: believed, it would prove too much.
    spread = max(sd, sd_now)
    error = math.sqrt(sd**2 / rows + spread**2 / rows_now)
    z = (now - mean) / error if error else NAN
    return Z(z, two_sided(z))


def shares(before: int, rows: int, now: int, rows_now: int) -> Z:
    """Whether a share moved from ``before / rows`` to ``now / rows_now``. NaN without rows.

    >>> round(shares(10, 1_000, 30, 1_000).z, 2)
    3.18
    """
    if rows < 1 or rows_now < 1:
        return Z(NAN, NAN)
    pool = (before + now + 0.5) / (rows + rows_now + 1)
    z = (now / rows_now - before / rows) / math.sqrt(pool * (1 - pool) * (1 / rows + 1 / rows_now))
    return Z(z, two_sided(z))
