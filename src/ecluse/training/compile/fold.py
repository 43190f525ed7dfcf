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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.column import Column, Columns
from ecluse.training.compile.columns import matrix
from ecluse.training.compile.graph import FLOAT, Graph
from ecluse.training.compile.passing import last_passing
from ecluse.training.compile.tree import Bools, Doubles, Ints, Split, Splits, Tree


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


class Nodes(NamedTuple):
    """The nodes that ask for one column and send NaN to one side, and their different ``limits``: node i has ``limits[which[i]]``."""

    place: Place
    missing_left: bool
    nodes: Ints
    limits: npt.NDArray[np.floating]
    which: Ints


@dataclass(frozen=True)
class Folded:
    """The matrix ``x`` that trees read, the splits of all their nodes, and rows that answer NaN.

    ``refusals`` go right where a row answers NaN; ``new`` are those that nothing in the graph answers yet.
    """

    x: str
    splits: Splits
    refusals: tuple[Split, ...]
    new: tuple[Split, ...]


def fold(graph: Graph, columns: Columns, trees: Sequence[Tree], *, strict: bool = False) -> Folded:
    """The splits of ``trees`` over ``columns``, as splits over ``x`` wherever a column is a function of one of ``x``.

    ``strict``: left is below a threshold, not up to it. Trees in single precision read single-precision columns.
    O(different splits · 72 · nodes of the encoders + nodes · log(nodes)).
    """
    single = trees[0].value.dtype == np.float32
    used = np.unique(np.concatenate([tree.feature[~tree.leaf] for tree in trees])).tolist()
    with_sets = {columns[int(tree.feature[node])] for tree in trees for node in tree.sets}
    asked = dict.fromkeys(columns[i] for i in used)
    places = places_of(graph, [column for column in asked if _foldable(column, single, column in with_sets)])
    known, new = refusals(graph, single)
    kept = [i for i in used if columns[i] not in places]
    first = graph.widths["x"] if new or not kept or len(kept) < len(used) else 0
    found = {i: places[columns[i]] for i in used if i not in kept}
    found |= {i: Place(first + position) for position, i in enumerate(kept)}
    splits = _splits(graph, found, trees, strict)
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


def _splits(graph: Graph, places: Mapping[int, Place], trees: Sequence[Tree], strict: bool) -> Splits:
    """The splits of all nodes: of one cut wherever numbers are compared, else tables."""
    leaf = np.concatenate([tree.leaf for tree in trees])
    column, table = np.full(len(leaf), -1), np.full(len(leaf), -1)
    cut, below, missing = np.zeros(len(leaf)), np.zeros(len(leaf), dtype=bool), np.zeros(len(leaf), dtype=bool)
    tables: list[Split] = []
    groups = _groups(trees, places, strict)
    for (place, missing_left, nodes, limits, which), cuts in zip(groups, _cuts(graph, groups), strict=True):
        strays = np.full(len(limits), missing_left) if np.isnan(place.missing) else place.missing <= limits
        column[nodes], cut[nodes], missing[nodes] = place.input, cuts[which], strays[which]
        below[nodes] = place.column is None or place.values[0] < place.values[1]
        odd = np.flatnonzero(np.isnan(cuts))
        numbers = np.full(len(limits), -1)
        numbers[odd] = len(tables) + np.arange(len(odd))
        table[nodes] = numbers[which]
        tables += [_split(place, limit, missing_left) for limit in limits[odd].tolist()]
    for node, feature, flags in _sets(trees):
        column[node], table[node] = places[feature].input, len(tables)
        tables.append(_set_split(places[feature], flags))
    return Splits(column, cut, below, missing, table, tuple(tables))


def _groups(trees: Sequence[Tree], places: Mapping[int, Place], strict: bool) -> list[Nodes]:
    """All nodes but those over sets. Of limits that are equal (0.0 and -0.0) the first counts."""
    feature, missing, limits = (
        np.concatenate(parts)
        for parts in zip(*((tree.feature, tree.missing_left, _limits(tree, strict)) for tree in trees), strict=True)
    )
    asks = ~np.concatenate([tree.leaf for tree in trees])
    asks[[node for node, _, _ in _sets(trees)]] = False
    nodes = np.flatnonzero(asks)
    keys = 2 * feature[nodes] + missing[nodes]
    order = np.argsort(keys, kind="stable")
    groups = []
    for part in np.split(nodes[order], np.flatnonzero(np.diff(keys[order])) + 1) if len(nodes) else []:
        different, _, which = np.unique(
            limits[part], return_index=True, return_inverse=True
        )  # the index: for the first
        groups.append(Nodes(places[int(feature[part[0]])], bool(missing[part[0]]), part, different, which))
    return groups


def _sets(trees: Sequence[Tree]) -> list[tuple[int, int, Bools]]:
    """The nodes over sets: position among all nodes, feature and flags."""
    starts = np.cumsum([0, *(len(tree.leaf) for tree in trees)]).tolist()
    return [
        (start + node, int(tree.feature[node]), flags)
        for start, tree in zip(starts, trees, strict=False)
        for node, flags in tree.sets.items()
        if not tree.leaf[node]
    ]


def _limits(tree: Tree, strict: bool) -> npt.NDArray[np.floating]:
    """Thresholds up to which a row goes left."""
    return np.nextafter(tree.threshold, -np.inf, dtype=tree.threshold.dtype) if strict else tree.threshold


def _cuts(graph: Graph, groups: Sequence[Nodes]) -> list[Doubles]:
    """The one cut that each limit of each group makes of the numbers of ``x``; NaN where it makes none or several."""
    cuts = [
        group.limits.astype(np.float64)
        if group.place.cuts is None and group.place.column is None
        else np.full(len(group.limits), np.nan)
        for group in groups
    ]
    asked: list[tuple[Column, Bools, Doubles, Nodes]] = []
    for group, found in zip(groups, cuts, strict=True):
        if group.place.column is not None:
            ends = group.place.values
            inner = (min(ends) <= group.limits) & (group.limits < max(ends))
            if inner.any():
                asked.append((group.place.column, inner, found, group))
    if not asked:
        return cuts

    def ask(values: Sequence[Doubles]) -> list[Doubles]:
        return _ask(graph, [(column, part) for (column, *_), part in zip(asked, values, strict=True)])

    rising = [group.place.values[0] < group.place.values[1] for *_, group in asked]
    told = last_passing(ask, [group.limits[inner].astype(np.float64) for _, inner, _, group in asked], rising)
    for (_, inner, found, _), passing in zip(asked, told, strict=True):
        found[inner] = passing
    return cuts


def _split(place: Place, limit: float, missing_left: bool) -> Split:
    """A split that is a table: of the values between cuts, or of all numbers alike."""

    def left(value: float) -> bool:
        return missing_left if np.isnan(value) else value <= limit

    values = place.values[:1] if place.cuts is None else place.values
    return Split(place.input, place.cuts or (), tuple(map(left, values)), left(place.missing), place.whole)


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
