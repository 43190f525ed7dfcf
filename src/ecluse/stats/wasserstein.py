"""Wasserstein-1 distance: how far, on average, values moved, in the unit of the values.

Vallender, "Calculation of the Wasserstein distance between probability distributions on the line",
Theory of Probability and Its Applications 18 (1974).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, Floats, counts_pair, sample, vector


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


def from_counts(edges: ArrayLike, reference: ArrayLike, current: ArrayLike, mean_gap: float) -> float:
    """Distance of two histograms over the same bins, from their counts (k + 1), the inner edges (k) and the difference of the means.

    Exact at the edges, linear between them. What lies outside them follows from ``mean_gap`` (current less reference), which is the signed
    area between the two distributions: the rest of it, so that moves in opposite directions in the two outer bins cancel. Never below
    ``|mean_gap|``. NaN when a side is empty; InvalidInput when the edges do not fit the counts or fall.

    >>> from_counts([1.0, 2.0], [10, 10, 0], [0, 10, 10], 1.0)
    1.0
    """
    r, c = counts_pair(reference, current)
    at = vector(edges, "edges")
    if at.size != r.size - 1 or (np.diff(at) < 0).any():
        raise InvalidInput(
            f"{at.size} edges of {r.size} bins", where="wasserstein", cure="pass rising edges, one fewer"
        )
    if not r.sum() or not c.sum():
        return NAN
    gap, widths = (np.cumsum(r) / r.sum() - np.cumsum(c) / c.sum())[:-1], np.diff(at)
    signed = float(((gap[1:] + gap[:-1]) / 2 * widths).sum())
    return float((_areas(gap) * widths).sum()) + abs(mean_gap - signed)


def wasserstein_noise(points: ArrayLike, reference: ArrayLike, n_current: int) -> float:
    """The distance expected when nothing moved: each cumulative share is off by ``sqrt(2 / pi * F * (1 - F) * (1 / n + 1 / m))`` on average.

    >>> round(wasserstein_noise([0.0, 1.0, 2.0], [500, 500], 1_000), 4)
    0.0178
    """
    counts, at = vector(reference, "reference counts"), vector(points, "points")
    rows = counts.sum()
    share = np.concatenate([[0.0], np.cumsum(counts) / rows])
    off = np.sqrt(np.maximum(2 / np.pi * share * (1 - share), 0.0) * (1 / rows + 1 / n_current))
    return float(((off[1:] + off[:-1]) / 2 * np.diff(at)).sum())


def _areas(gap: Floats) -> Floats:
    """Mean of |gap| over each step between neighbours, the gap being linear in between: two triangles where it changes its sign."""
    a, b = np.abs(gap[:-1]), np.abs(gap[1:])
    crossed = gap[:-1] * gap[1:] < 0
    with np.errstate(invalid="ignore", divide="ignore"):
        triangles = (a**2 + b**2) / (2 * (a + b))
    return np.where(crossed, triangles, (a + b) / 2)
