"""Reference: what the inputs, scores and target looked like when a version was trained; monitors compare windows with it.

Plain frozen values, so that ``core.codec`` writes them as JSON and reads them back equal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.codec import tagged
from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import vector
from ecluse.stats.histogram import Histogram, count, reference_edges, summarize

Kind = Literal["number", "boolean", "category"]
BINS = 20
FINE = 100
"""Finer bins, for the distances that need the shape. A multiple of ``BINS``: every edge of the one is an edge of the other."""


@tagged
@dataclass(frozen=True)
class NumberReference:
    """Inner edges and counts of quantile bins (see ``stats.histogram``), mean and standard deviation, number of missing values.

    ``fine_edges`` and ``fine_counts`` are up to ``FINE`` bins of the same kind, ``low`` and ``high`` the least and greatest finite value:
    empty and None in references written before there were any.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int
    mean: float | None
    sd: float | None
    fine_edges: tuple[float, ...] = ()
    fine_counts: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def histogram(self) -> Histogram:
        """The bins as the distances take them."""
        return Histogram(list(self.edges), list(self.counts), self.missing)

    @property
    def rows(self) -> int:
        """Values seen, the missing ones included."""
        return sum(self.counts) + self.missing


@tagged
@dataclass(frozen=True)
class CategoryReference:
    """Rows per value (booleans as ``"true"`` and ``"false"``), number of missing values."""

    counts: Mapping[str, int]
    missing: int

    @property
    def rows(self) -> int:
        """Values seen, the missing ones included."""
        return sum(self.counts.values()) + self.missing


FeatureReference = NumberReference | CategoryReference


@dataclass(frozen=True)
class Reference:
    """``features`` are the raw inputs on the ``rows`` trained on; ``score`` the validation scores: numbers for a binary model or a
    regression, the counts of the answered class for a multi-class model. ``target`` is described like a feature: a binary label as a
    boolean, so that its rate is ``target_rate``. ``importance`` weighs the features where it is known.
    """

    rows: int
    features: Mapping[str, FeatureReference]
    score: FeatureReference
    target: FeatureReference
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def target_rate(self) -> float | None:
        """Share of positives of a binary label, mean of a regression's; None for classes."""
        if isinstance(self.target, NumberReference):
            return self.target.mean
        if set(self.target.counts) <= {"true", "false"} and self.target.counts:
            return self.target.counts.get("true", 0) / sum(self.target.counts.values())
        return None


def describe(
    columns: Mapping[str, ArrayLike | Sequence[Any]],
    kinds: Mapping[str, Kind],
    scores: ArrayLike | Sequence[str],
    target: ArrayLike | Sequence[Any],
    *,
    importance: Mapping[str, float] | None = None,
) -> Reference:
    """The reference of columns (n,) of these kinds, of scores (m,) and of the target (n,). O(n log n) a number, O(n) a category.

    None and NaN are missing. Scores and target of text are counted, booleans too, numbers binned. Raises InvalidInput for a column
    without a kind.

    >>> made = describe({"age": [30, 40, None]}, {"age": "number"}, [0.2, 0.4], [True, False, True])
    >>> made.features["age"].mean, made.features["age"].missing, made.target.counts
    (35.0, 1, {'false': 1, 'true': 2})
    """
    if unknown := sorted(set(columns) - set(kinds)):
        raise InvalidInput(f"no kind for {', '.join(unknown)}", where="reference", cure="declare every column's kind")
    rows = len(target) if isinstance(target, Sequence) else np.asarray(target).shape[0]
    features = {name: describe_column(values, kinds[name]) for name, values in sorted(columns.items())}
    for name, each in features.items():
        if isinstance(each, NumberReference) and each.missing < rows and not math.isfinite(each.sd or 0.0):
            cure = "declare min and max where it comes from"
            raise InvalidInput(f"the values of {name} are too large to be summarised", where="reference", cure=cure)
    return Reference(
        rows,
        features,
        describe_column(scores, _kind_of(scores)),
        describe_column(target, _kind_of(target)),
        dict(importance or {}),
    )


def describe_column(values: ArrayLike | Sequence[Any], kind: Kind) -> FeatureReference:
    """One column's reference.

    >>> describe_column(["a", "b", None, "a"], "category")
    CategoryReference(counts={'a': 2, 'b': 1}, missing=1)
    """
    if kind != "number":
        return _count(values, kind)
    x = vector([np.nan if v is None else v for v in values] if isinstance(values, list | tuple) else values)
    bins, summary = count(x, reference_edges(x, BINS)), summarize(x)
    fine = count(x, reference_edges(x, FINE))
    finite = x[np.isfinite(x)]
    return NumberReference(
        tuple(bins.edges),
        tuple(bins.counts),
        bins.missing,
        summary.mean,
        summary.sd,
        tuple(fine.edges),
        tuple(fine.counts),
        float(finite.min()) if finite.size else None,
        float(finite.max()) if finite.size else None,
    )


def _count(values: Any, kind: Kind) -> CategoryReference:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    counts = Counter(value for value in listed if not _is_missing(value))
    named: Counter[str] = Counter()
    for value, rows in counts.items():
        named[("true" if value else "false") if kind == "boolean" else str(value)] += rows
    return CategoryReference(dict(sorted(named.items())), len(listed) - sum(named.values()))


def _kind_of(values: Any) -> Kind:
    """A column's kind by what it holds: booleans, text, else numbers."""
    array = values if isinstance(values, np.ndarray) else None
    first = next((v for v in (array if array is not None else values) if not _is_missing(v)), 0.0)
    if isinstance(first, bool | np.bool_):
        return "boolean"
    return "category" if isinstance(first, str) else "number"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
