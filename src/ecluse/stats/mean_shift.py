"""Mean shift: how many reference standard deviations the mean moved.

The standardised mean difference of Cohen, "Statistical Power Analysis for the Behavioral Sciences" (1969), with the
reference's deviation as the unit (Glass 1976): a size of effect, which more rows do not inflate, unlike a z-test.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, sample


def mean_shift(reference_mean: float, reference_sd: float, current: ArrayLike) -> float:
    """``(mean(current) - reference_mean) / reference_sd``; NaN entries of ``current`` (m,) are dropped.

    NaN without values. When the reference was constant: 0 if the mean stayed (to rounding), else +-inf.

    >>> mean_shift(10.0, 2.0, [13.0, 15.0])
    2.0
    """
    values = sample(current, "current")
    if not values.size or np.isnan(reference_mean) or np.isnan(reference_sd):
        return NAN
    difference = float(values.mean()) - reference_mean
    if reference_sd > 0:
        return difference / reference_sd
    return 0.0 if np.isclose(difference + reference_mean, reference_mean) else float(np.copysign(np.inf, difference))


def mean_shift_noise(n_reference: int, n_current: int) -> float:
    """Standard deviation of the shift when nothing moved: ``sqrt(1 / n_reference + 1 / n_current)``.

    >>> round(mean_shift_noise(10_000, 100), 3)
    0.1
    """
    if min(n_reference, n_current) < 1:
        raise InvalidInput(
            f"{n_reference} and {n_current} rows", where="mean_shift", cure="use at least one row a side"
        )
    return float(np.sqrt(1 / n_reference + 1 / n_current))
