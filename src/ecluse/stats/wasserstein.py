"""Wasserstein-1 distance: how far, on average, values moved, in the unit of the values.

Vallender, "Calculation of the Wasserstein distance between probability distributions on the line",
Theory of Probability and Its Applications 18 (1974).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, sample, vector


def wasserstein(reference: ArrayLike, current: ArrayLike) -> float:
    """Area between the two cumulative distributions of samples (n,), (m,); NaN entries are dropped. O((n + m) log).

    NaN when a side is empty. Divide by the reference's standard deviation to compare columns.

    >>> wasserstein([1, 2, 3], [2, 3, 4])
    1.0
    """
    r, c = np.sort(sample(reference, "reference")), np.sort(sample(current, "current"))
    if not r.size or not c.size:
        return NAN
    both = np.sort(np.concatenate([r, c]))
    at = both[:-1]
    gap = np.searchsorted(r, at, "right") / r.size - np.searchsorted(c, at, "right") / c.size
    return float((np.abs(gap) * np.diff(both)).sum())


def from_quantiles(quantiles: ArrayLike, current: ArrayLike) -> float:
    """Distance of a sample (m,) to a reference kept as q quantiles at equal steps of probability from 0 to 1.

    The mean absolute gap of the quantile functions over the q - 1 steps (trapezoids). NaN without current values;
    InvalidInput for fewer than two quantiles or unsorted ones.

    >>> from_quantiles([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    1.0
    """
    q, c = vector(quantiles, "quantiles"), sample(current, "current")
    if q.size < 2 or (np.diff(q) < 0).any():
        raise InvalidInput("quantiles are fewer than two or not sorted", where="wasserstein", cure="sort them")
    if not c.size:
        return NAN
    gap = np.abs(np.quantile(c, np.linspace(0, 1, q.size)) - q)
    return float(((gap[1:] + gap[:-1]) / 2).mean())
