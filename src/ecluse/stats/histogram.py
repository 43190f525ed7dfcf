"""Reference statistics of a numeric column: a histogram over quantile bins and a summary, storable as JSON.

Edges are the *inner* cuts only: k cuts make k + 1 bins, (-inf, cut 0], (cut 0, cut 1], ..., (last cut, inf). The open
ends are not stored, because JSON has no infinity. Equal-mass bins give PSI its power where the data are
(Yurdakul 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import Floats, sample, vector


@dataclass(frozen=True, slots=True)
class Histogram:
    """Inner edges (k, rising), counts (k + 1), and how many values were missing (NaN)."""

    edges: list[float]
    counts: list[int]
    missing: int

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise InvalidInput(
                f"{len(self.edges)} edges with {len(self.counts)} counts",
                where="histogram",
                cure="k edges, k + 1 counts",
            )

    @property
    def rows(self) -> int:
        """Values counted, without the missing."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Summary:
    """Count and missing; mean, standard deviation (n in the denominator), smallest and largest, None without values."""

    count: int
    missing: int
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None


def reference_edges(x: ArrayLike, bins: int = 20) -> list[float]:
    """Inner edges of at most ``bins`` bins of about equal mass: distinct observed values, rising. O(n log n).

    Repeated values share an edge, so there may be fewer bins; the bin above the last edge is never empty. A constant
    column gets a bin of its own between two open ones, so that a later move either way is seen. Infinite values are
    counted, never edges. No values: no edges.

    >>> reference_edges([1, 2, 3, 4, 5, 6, 7, 8], bins=4)
    [2.0, 4.0, 6.0]
    >>> reference_edges([0, 0, 0, 1])
    [0.0]
    """
    if bins < 1:
        raise InvalidInput(f"{bins} bins", where="histogram", cure="use at least one bin")
    values = sample(x)
    values = values[np.isfinite(values)]
    if not values.size:
        return []
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        with np.errstate(over="ignore"):  # nothing is below the lowest double
            below = float(np.nextafter(lowest, -np.inf))
        return [below, lowest] if np.isfinite(below) else [lowest]
    # Observed values, not interpolated ones: the mass up to an edge is then exact on discrete columns too.
    # Ranks in whole numbers, because 0.15 * 4000 is a little more than 600 in floating point.
    ranks = -(-np.arange(1, bins) * values.size // bins)
    cuts = np.unique(np.sort(values)[ranks - 1])
    return [float(cut) for cut in cuts if cut < highest]


def count(x: ArrayLike, edges: Sequence[float]) -> Histogram:
    """The histogram of ``x`` (n,) over the inner ``edges``; NaN counts as missing, +-inf in the open bins. O(n log k).

    >>> count([0, 1, 1, 5, float("nan")], [0.0, 1.0])
    Histogram(edges=[0.0, 1.0], counts=[1, 2, 1], missing=1)
    """
    cuts = vector(list(edges), "edges")
    if np.isnan(cuts).any() or (np.diff(cuts) <= 0).any():
        raise InvalidInput("edges do not rise", where="histogram", cure="take them from reference_edges")
    values = vector(x)
    present = values[~np.isnan(values)]
    found = np.bincount(np.searchsorted(cuts, present, "left"), minlength=cuts.size + 1)
    return Histogram(cuts.tolist(), found.tolist(), values.size - present.size)


def quantiles(x: ArrayLike, points: int = 101) -> list[float]:
    """Quantiles at equal steps of probability from 0 to 1: the sketch for Kolmogorov-Smirnov and Wasserstein.

    NaN entries are dropped; no values, no quantiles.

    >>> quantiles([1, 2, 3], points=3)
    [1.0, 2.0, 3.0]
    """
    if points < 2:
        raise InvalidInput(f"{points} quantiles", where="histogram", cure="use at least two")
    values = sample(x)
    return _floats(np.quantile(values, np.linspace(0, 1, points))) if values.size else []


def summarize(x: ArrayLike) -> Summary:
    """The summary of ``x`` (n,), NaN counted as missing.

    >>> summarize([1, 3, float("nan")])
    Summary(count=2, missing=1, mean=2.0, sd=1.0, min=1.0, max=3.0)
    """
    values = vector(x)
    present = values[~np.isnan(values)]
    missing = values.size - present.size
    if not present.size:
        return Summary(0, missing, None, None, None, None)
    return Summary(
        present.size,
        missing,
        float(present.mean()),
        float(present.std()),
        float(present.min()),
        float(present.max()),
    )


def _floats(values: Floats) -> list[float]:
    return [float(value) for value in values]
