"""Metrics of a regression: true values and predictions in, one number out.

Every function takes ``y`` (n,) and ``prediction`` (n,); InvalidInput when the lengths differ. Empty input, a NaN
prediction and an undefined ratio give NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.stats.arrays import NAN, Floats, measurable, ratio, same_length, vector


def rmse(y: ArrayLike, prediction: ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the target.

    >>> rmse([1, 2], [1, 4]) == 2**0.5
    True
    """
    truth, guess = _read(y, prediction)
    return float(np.sqrt(((truth - guess) ** 2).mean())) if measurable(guess) else NAN


def mae(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error, in the unit of the target. Willmott & Matsuura, Climate Research 30 (2005).

    >>> mae([1, 2], [1, 4])
    1.0
    """
    truth, guess = _read(y, prediction)
    return float(np.abs(truth - guess).mean()) if measurable(guess) else NAN


def median_absolute_error(y: ArrayLike, prediction: ArrayLike) -> float:
    """Median absolute error, in the unit of the target: deaf to a few wild rows.

    >>> median_absolute_error([1, 2, 3], [1, 4, 90])
    2.0
    """
    truth, guess = _read(y, prediction)
    return float(np.median(np.abs(truth - guess))) if measurable(guess) else NAN


def r2(y: ArrayLike, prediction: ArrayLike) -> float:
    """Share of the target's variance explained: 1 perfect, 0 the mean, below 0 worse; NaN for a constant target.

    Kvålseth, "Cautionary note about R²", The American Statistician 39 (1985), its first form.

    >>> r2([1, 2, 3], [1, 2, 3]), r2([1, 2, 3], [2, 2, 2])
    (1.0, 0.0)
    """
    truth, guess = _read(y, prediction)
    if not measurable(guess):
        return NAN
    spread = ((truth - truth.mean()) ** 2).sum()
    return 1 - ratio(float(((truth - guess) ** 2).sum()), float(spread))


def mape(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error relative to the target (0.1 = 10 %); NaN as soon as one target is zero.

    de Myttenaere et al., "Mean absolute percentage error for regression models", Neurocomputing 192 (2016).

    >>> mape([2, 4], [1, 4]), mape([0, 4], [1, 4])
    (0.25, nan)
    """
    truth, guess = _read(y, prediction)
    if not measurable(guess) or (truth == 0).any():
        return NAN
    return float(np.abs((truth - guess) / truth).mean())


def _read(y: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    """Both as (n,) doubles of equal length."""
    truth, guess = vector(y, "targets"), vector(prediction, "predictions")
    same_length(truth, guess)
    return truth, guess
