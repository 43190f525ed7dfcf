"""Folding: trees that read encoded columns become trees that read ``x`` itself, and the encoders leave the graph.

A scaled, filled, one-hot or otherwise encoded column is a function of one column of ``x``. So a split of it is a split of
``x``: the raw numbers that go left are those whose encoded value does. Nothing is inverted by algebra, whose rounding would
differ: the graph is asked. Where the function rises or falls, bisection over the doubles finds the last one whose encoded
value still passes, with the encoders' own arithmetic; where it is a table (a category, known numbers), each entry is asked.
What is missing goes where its encoded value goes. A column made of several columns of ``x`` stays in the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.column import Column, Columns
from ecluse.training.compile.columns import matrix
from ecluse.training.compile.graph import FLOAT, Graph
from ecluse.training.compile.tree import Bools, Split, Tree

Doubles = npt.NDArray[np.float64]
Pieces = tuple[tuple[float, ...], tuple[bool, ...]]
"""Cuts of the number line and, for each piece between them, whether it goes left."""


@dataclass(frozen=True)
class Place:
    """Where trees find a model's column: in column ``input`` of their matrix.

    ``values``: the encoded value of each piece between ``cuts``; without cuts at both ends of the numbers that ``column``
    rises or falls over; without either, the matrix holds the encoded value itself. ``missing``: the encoded value of NaN.
    """

    input: int
    missing: float = np.nan
    cuts: tuple[float, ...] | None = None
    values: tuple[float, ...] = ()
    whole: bool = False
    column: Column | None = None


@dataclass(frozen=True)
class Folded:
    """The matrix ``x`` that trees read, the split of each node of each tree (None at leaves), and rows that answer NaN.

    ``refusals`` go right where a row answers NaN; ``new`` are those that nothing in the graph answers yet.
    """

    x: str
    splits: tuple[tuple[Split | None, ...], ...]
    refusals: tuple[Split, ...]
    new: tuple[Split, ...]


def fold(graph: Graph, columns: Columns, trees: Sequence[Tree], *, strict: bool = False) -> Folded:
    """The splits of ``trees`` over ``columns``, as splits over ``x`` wherever a column is a function of one of ``x``.

    ``strict``: left is below a threshold, not up to it. Trees in single precision read single-precision columns.
    O(splits · 64 · nodes of the encoders).
    """
    single = trees[0].value.dtype == np.float32
    used = sorted({int(i) for tree in trees for i in tree.feature[~tree.leaf]})
    with_sets = {columns[int(tree.feature[node])] for tree in trees for node in tree.sets}
    asked = dict.fromkeys(columns[i] for i in used)
    places = places_of(graph, [column for column in asked if _foldable(column, single, column in with_sets)])
    known, new = refusals(graph, single)
    kept = [i for i in used if columns[i] not in places]
    first = graph.widths["x"] if new or not kept or len(kept) < len(used) else 0
    found = {i: places[columns[i]] for i in used if i not in kept}
    found |= {i: Place(first + position) for position, i in enumerate(kept)}
    cut = _cut(graph, found, trees, strict)
    made: dict[tuple[int, float, bool], Split] = {}
    splits = tuple(tuple(_splits(tree, found, cut, strict, made)) for tree in trees)
    x = _input(graph, first, tuple(columns[i] for i in kept), single)
    return Folded(x, splits, known if first else (), new)


def refusals(graph: Graph, single: bool = False) -> tuple[tuple[Split, ...], tuple[Split, ...]]:
    """The rows of ``graph.refused`` as splits of ``x`` that send them right: all, and those that nothing answers yet.

    Whoever calls must answer NaN for the latter.
    """
    places = places_of(graph, [flag for flag in graph.refused if _foldable(flag, single, sets=False)])
    splits = {flag: split for flag, place in places.items() if (split := _refusal(place)) is not None}
    new = tuple(split for flag, split in splits.items() if graph.answer_nan(flag) and _refuses(split))
    return tuple(filter(_refuses, splits.values())), new


def _foldable(column: Column, single: bool, sets: bool) -> bool:
    """Single-precision trees cannot tell doubles apart; sets need codes as they are."""
    if column.source is None:
        return False
    if column.source.cuts is None:
        return column.tensor == "x" or not (single or sets)
    return not single or all(float(np.float32(cut)) == cut for cut in column.source.cuts)


def _ask(graph: Graph, questions: Sequence[tuple[Column, Doubles]]) -> list[Doubles]:
    """The encoded values of columns for given values of their columns of ``x``, all in one run of the graph."""
    taken: dict[int, int] = defaultdict(int)
    starts = []
    for column, values in questions:
        starts.append(taken[_source(column)])
        taken[_source(column)] += len(values)
    x = np.zeros((max(taken.values()), graph.widths["x"]))
    for start, (column, values) in zip(starts, questions, strict=True):
        x[start : start + len(values), _source(column)] = values
    tensors = sorted({column.tensor for column, _ in questions} - {"x"})
    made = {"x": x} | dict(zip(tensors, graph.evaluate(tensors, x) if tensors else [], strict=True))
    return [
        made[column.tensor][start : start + len(values), column.index].astype(np.float64)
        for start, (column, values) in zip(starts, questions, strict=True)
    ]


def _source(column: Column) -> int:
    assert column.source is not None  # only columns with one are asked
    return column.source.index


def places_of(graph: Graph, columns: Sequence[Column]) -> dict[Column, Place]:
    """Where the trees find columns in ``x``; without those whose ends are no numbers."""
    questions = [(column, np.append(_probes(column), np.nan)) for column in columns]
    places: dict[Column, Place] = {}
    for column, answers in zip(columns, _ask(graph, questions) if questions else [], strict=True):
        cuts, whole = (None, False) if column.source is None else (column.source.cuts, column.source.whole)
        *values, missing = answers.tolist()
        if cuts is not None:
            places[column] = Place(_source(column), missing, cuts, tuple(values), whole)
        elif column.tensor == "x":
            places[column] = Place(_source(column))
        elif not np.isnan(values).any():
            places[column] = Place(_source(column), missing, None, tuple(values), column=column)
    return places


def _probes(column: Column) -> Doubles:
    """A value of each piece; both ends where there are no pieces."""
    cuts = None if column.source is None else column.source.cuts
    if cuts is None:
        return np.array([-np.inf, np.inf])
    return np.array([*cuts, max(cuts[-1] + 1.0, np.nextafter(cuts[-1], np.inf))])


def _refusal(place: Place) -> Split | None:
    """The split that sends refused values right; None where the flag is no table."""
    if place.cuts is None and len(set(place.values)) != 1:
        return None
    left = [value != 1.0 for value in (place.values if place.cuts is not None else place.values[:1])]
    return Split(place.input, place.cuts or (), tuple(left), place.missing != 1.0, place.whole)


def _refuses(split: Split) -> bool:
    return not (all(split.left) and split.missing)


def _input(graph: Graph, first: int, kept: Columns, single: bool) -> str:
    """The matrix the trees read: all ``first`` columns of ``x``, if any, and behind it the columns that stay encoded."""
    x = "x"
    if kept:
        x = matrix(graph, kept)
        x = graph.node("Concat", "x", x, axis=1, width=first + len(kept)) if first else x
    return graph.node("Cast", x, to=FLOAT) if single else x


def _cut(
    graph: Graph, places: Mapping[int, Place], trees: Sequence[Tree], strict: bool
) -> dict[tuple[int, float], Pieces]:
    """By column and threshold, the pieces of each rising or falling column."""
    found: dict[tuple[int, float], Pieces] = {}
    questions: dict[int, tuple[Column, Doubles, bool]] = {}
    for i, place in places.items():
        if place.column is None:
            continue
        limits = np.unique(np.concatenate([_limits(tree, strict)[tree.feature == i] for tree in trees]))
        low, high = place.values
        inner = (min(low, high) <= limits) & (limits < max(low, high))
        found |= {(i, float(t)): ((), (bool(low <= t),)) for t in limits[~inner]}
        if inner.any():
            questions[i] = (place.column, limits[inner], low < high)
    for (i, (_, limits, rising)), cuts in zip(
        questions.items(), _bisected(graph, list(questions.values())), strict=True
    ):
        found |= {(i, float(t)): ((float(cut),), (rising, not rising)) for t, cut in zip(limits, cuts, strict=True)}
    return found


def _limits(tree: Tree, strict: bool) -> npt.NDArray[np.floating]:
    """Thresholds up to which a row goes left."""
    limits = np.nextafter(tree.threshold, -np.inf, dtype=tree.threshold.dtype) if strict else tree.threshold
    return np.where(tree.leaf, 0.0, limits)


def _bisected(graph: Graph, questions: Sequence[tuple[Column, Doubles, bool]]) -> list[Doubles]:
    """The last double at which a column passes each of its thresholds: the first end passes, the last does not."""
    ends = _keys(np.array([-np.inf, np.inf]))
    lows = [np.full(len(limits), ends[0]) for _, limits, _ in questions]
    highs = [np.full(len(limits), ends[1]) for _, limits, _ in questions]
    for _ in range(64 if questions else 0):
        middles = [(low >> 1) + (high >> 1) + (low & high & 1) for low, high in zip(lows, highs, strict=True)]
        asked = [(column, _doubles(middle)) for (column, _, _), middle in zip(questions, middles, strict=True)]
        for k, values in enumerate(_ask(graph, asked)):
            passes = (values <= questions[k][1]) == questions[k][2]
            lows[k], highs[k] = np.where(passes, middles[k], lows[k]), np.where(passes, highs[k], middles[k])
    return [_doubles(low) for low in lows]


def _keys(values: Doubles) -> npt.NDArray[np.int64]:
    """Doubles as integers in the same order."""
    bits = values.view(np.int64)
    return np.where(bits >= 0, bits, np.iinfo(np.int64).min - bits)


def _doubles(keys: npt.NDArray[np.int64]) -> Doubles:
    bits = np.where(keys >= 0, keys, np.iinfo(np.int64).min - keys)
    return bits.view(np.float64)


def _splits(
    tree: Tree,
    places: Mapping[int, Place],
    cut: Mapping[tuple[int, float], Pieces],
    strict: bool,
    made: dict[tuple[int, float, bool], Split],
) -> list[Split | None]:
    """The split of each node; ``made`` keeps those of equal nodes."""
    limits = _limits(tree, strict)
    splits: list[Split | None] = [None] * len(tree.leaf)
    for node in np.flatnonzero(~tree.leaf).tolist():
        i, limit, missing = int(tree.feature[node]), float(limits[node]), bool(tree.missing_left[node])
        if node in tree.sets:
            splits[node] = _set_split(places[i], tree.sets[node])
            continue
        if (i, limit, missing) not in made:
            made[i, limit, missing] = _split(places[i], limit, missing, cut.get((i, limit), ((limit,), (True, False))))
        splits[node] = made[i, limit, missing]
    return splits


def _split(place: Place, limit: float, missing_left: bool, pieces: Pieces) -> Split:
    def left(value: float) -> bool:
        return missing_left if np.isnan(value) else value <= limit

    if place.cuts is not None:
        pieces = place.cuts, tuple(map(left, place.values))
    return Split(place.input, *pieces, missing=left(place.missing), whole=place.whole)


def _set_split(place: Place, flags: Bools) -> Split:
    """A split over a set of categories, by codes: flags of [missing, unseen, category 0, 1, ...]."""

    def left(code: float) -> bool:
        if np.isnan(code):
            return bool(flags[0])
        return bool(flags[int(code) + 2] if 0 <= code < len(flags) - 2 else flags[1])

    if place.cuts is not None:
        return Split(place.input, place.cuts, tuple(map(left, place.values)), left(place.missing), place.whole)
    codes = np.arange(len(flags) - 1)
    cuts = np.nextafter(codes, -np.inf).tolist()
    return Split(place.input, tuple(cuts), tuple(map(left, [-1.0, *codes.tolist()])), left(place.missing))
