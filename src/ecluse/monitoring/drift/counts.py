"""Counts of a column: all that the drift statistics need of its values, of fixed size however many there are, and addable.

A window is counted part by part (a segment of the journal, a batch of rows) against the bins and categories of the reference; the parts are
added, and no value is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ecluse.core.errors import InvalidInput
from ecluse.core.expression import Value
from ecluse.stats.arrays import Floats
from ecluse.stats.reference import CategoryReference, FeatureReference, NumberReference


@dataclass(frozen=True)
class ColumnCounts:
    """``rows`` values, ``missing`` of them. Of a number: ``bins`` over the reference's finest edges; ``finite`` values with their ``mean``,
    sum of squared deviations ``squares``, ``low`` and ``high``. Of a category: rows per value of the reference, and ``unseen`` others.
    """

    rows: int = 0
    missing: int = 0
    bins: tuple[int, ...] = ()
    finite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float | None = None
    high: float | None = None
    categories: Mapping[str, int] = field(default_factory=dict)
    unseen: int = 0

    @property
    def sd(self) -> float:
        """Standard deviation of the finite values (n in the denominator), 0 without any."""
        return math.sqrt(self.squares / self.finite) if self.finite else 0.0


def is_missing(value: Value) -> bool:
    """None or NaN."""
    return value is None or (isinstance(value, float) and value != value)


def count_values(reference: FeatureReference, values: Sequence[Value]) -> ColumnCounts:
    """The counts of ``values`` (n,), None and NaN missing, over the bins or categories of a reference. O(n log bins).

    A value of another kind than the reference's counts as missing in a number, as its text in a category.

    >>> from ecluse.stats.reference import describe_column
    >>> count_values(describe_column(["a", "b"], "category"), ["a", "z", None])
    ColumnCounts(rows=3, missing=1, bins=(), finite=0, mean=0.0, squares=0.0, low=None, high=None, categories={'a': 1}, unseen=1)
    """
    if isinstance(reference, CategoryReference):
        return _categories(reference, values)
    try:
        numbers = numbers_of(values)
    except (TypeError, ValueError):
        numbers = np.array([v if isinstance(v, bool | int | float) else np.nan for v in values], dtype=np.float64)
    return count_numbers(reference, numbers)


def numbers_of(values: Sequence[Value]) -> Floats:
    """As doubles, None as NaN."""
    if isinstance(values, np.ndarray):
        return np.asarray(values, dtype=np.float64)
    return np.fromiter(values, np.float64, len(values))  # three quarters of what np.array costs


def count_numbers(reference: NumberReference, numbers: Floats) -> ColumnCounts:
    """See :func:`count_values`: of an array (n,), NaN missing."""
    ordered = np.sort(numbers)  # a tenth of what it costs to look for each value's bin; NaN comes last
    rows = int(np.searchsorted(ordered, np.nan, "left"))
    present, missing = ordered[:rows], numbers.size - rows
    below = np.searchsorted(present, np.array(edges_of(reference), dtype=np.float64), "right")
    bins = tuple(np.diff(below, prepend=0, append=rows).tolist())
    finite = present[np.searchsorted(present, -np.inf, "right") : np.searchsorted(present, np.inf, "left")]
    if not finite.size:
        return ColumnCounts(numbers.size, missing, bins)
    with np.errstate(over="ignore"):
        mean = float(finite.mean())
        squares = float(np.square(finite - mean).sum())
    return ColumnCounts(numbers.size, missing, bins, finite.size, mean, squares, float(finite[0]), float(finite[-1]))


def _categories(reference: CategoryReference, values: Sequence[Value]) -> ColumnCounts:
    named: Counter[str] = Counter()
    missing = 0
    for value, rows in Counter(values).items():
        if is_missing(value):
            missing += rows
        else:
            named[("true" if value else "false") if isinstance(value, bool) else str(value)] += rows
    known = {name: rows for name, rows in sorted(named.items()) if name in reference.counts}
    return ColumnCounts(len(values), missing, categories=known, unseen=len(values) - missing - sum(known.values()))


def edges_of(reference: NumberReference) -> tuple[float, ...]:
    """The finest inner edges a reference has."""
    return reference.fine_edges or reference.edges


def coarse(reference: NumberReference, bins: Sequence[int]) -> list[int]:
    """Counts over the finest edges as counts over the reference's own ``edges``, each of which is one of the finest."""
    if not reference.fine_edges:
        return list(bins)
    last = np.searchsorted(np.array(reference.fine_edges), np.array(reference.edges), "left")
    running = np.cumsum(np.array(bins, dtype=np.int64))
    ends = np.append(running[last], running[-1:])
    return [int(rows) for rows in np.diff(ends, prepend=0)]


def added(parts: Iterable[ColumnCounts]) -> ColumnCounts:
    """The counts of all parts together. The mean and deviation are those of the whole (Chan, Golub & LeVeque 1979), up to rounding.

    Raises InvalidInput for parts counted over different bins.

    >>> added([ColumnCounts(2, 0, (1, 1), 2, 1.0, 0.5), ColumnCounts(1, 1, (0, 0))]).bins
    (1, 1)
    """
    total = ColumnCounts()
    for part in parts:
        total = _sum(total, part) if total.rows else part if part.rows else total
    return total


def _sum(a: ColumnCounts, b: ColumnCounts) -> ColumnCounts:
    if not b.rows:
        return a
    if len(a.bins) != len(b.bins):
        raise InvalidInput(
            f"{len(a.bins)} bins and {len(b.bins)} bins", where="monitoring", cure="count over one reference"
        )
    finite = a.finite + b.finite
    gap = b.mean - a.mean
    mean = a.mean + gap * b.finite / finite if finite else 0.0
    squares = a.squares + b.squares + (gap**2 * a.finite * b.finite / finite if finite else 0.0)
    lows = [each for each in (a.low, b.low) if each is not None]
    highs = [each for each in (a.high, b.high) if each is not None]
    return ColumnCounts(
        a.rows + b.rows,
        a.missing + b.missing,
        tuple(x + y for x, y in zip(a.bins, b.bins, strict=True)),
        finite,
        mean,
        squares,
        min(lows, default=None),
        max(highs, default=None),
        dict(sorted((Counter(a.categories) + Counter(b.categories)).items())),
        a.unseen + b.unseen,
    )
