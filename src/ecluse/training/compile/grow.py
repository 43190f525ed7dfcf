"""Growing: the nodes of ``branches`` for whole forests, all trees at once and level by level.

A *place* is where a walk down a tree may stand: at a node, knowing of some columns what they may hold. Each turn decides for
all open places together (the *front*) what comes of them: a leaf, a node that asks, or nothing, where only one side can be
meant. What was made is numbered at the end as a walk in depth meets it, the false side first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.branches import ANYTHING, LEQ, MEMBER, Branches, Fork, Region, Span, decide, together
from ecluse.training.compile.tree import Bools, Doubles, Ints, Split, Splits, Tree

_GROWTH, _ROOM = 1.5, 1000  # copies are worth it up to this many nodes for each of the trees, and some
_BATCH = 1 << 20  # nodes times columns of which something may be known, grown at once: bounds memory
_NOT_ASKED = 2  # in ``Front.missing``, beside 0 and 1: nothing is known of the column
_RIGHT, _LEFT, _AGAIN = 0, 1, 2  # where the sides of a node lead
_TRUE, _FALSE = 0, 1

Small = npt.NDArray[np.int8]


class Forest(NamedTuple):
    """Trees as one: children by their position among all nodes, which tree a node belongs to, and the trees' ``roots``."""

    left: Ints
    right: Ints
    tree: Ints
    roots: Ints
    value: npt.NDArray[np.floating]
    splits: Splits


class Front(NamedTuple):
    """Open places: their node, the node they hang on (its number, -1: none) and its side, and a Span of each column [places, C]."""

    node: Ints
    parent: Ints
    side: Ints
    low: Doubles
    high: Doubles
    missing: Small


class Forks(NamedTuple):
    """What ``decide`` says of places, as arrays: a node where one ``asks``, else ``true`` is the way; ``members`` a set's number or -1."""

    asks: Bools
    cut: Doubles
    members: Ints
    missing: Bools
    true: Small
    false: Small


class Made(NamedTuple):
    """What a turn made, leaves (``column`` -1) and nodes that ask: as in ``Front`` whose place they took, and what they ask."""

    node: Ints
    parent: Ints
    side: Ints
    column: Ints
    cut: Doubles
    members: Ints
    missing: Bools


_Arrays = TypeVar("_Arrays", bound=tuple[Any, ...])


@dataclass
class Tables:
    """``decide`` for splits that are tables, asked once for each table and span; ``members`` are the sets it chose."""

    splits: tuple[Split, ...]
    sets: bool
    members: list[tuple[float, ...]] = field(default_factory=list)
    _told: list[tuple[float, ...]] = field(default_factory=list)
    _numbers: dict[tuple[int, float, float, int], int] = field(default_factory=dict)

    def decide(self, table: Ints, low: Doubles, high: Doubles, missing: Small) -> Forks:
        """For places at nodes with a table. Python for each of them, a look into a dictionary."""
        asked = zip(table.tolist(), low.tolist(), high.tolist(), missing.tolist(), strict=True)
        numbers, where = np.unique([self._number(*each) for each in asked], return_inverse=True)
        told = np.array([self._told[number] for number in numbers.tolist()])[where]
        whole = told[:, [0, 2, 3, 4, 5]].astype(np.int64)
        flags, ways = whole[:, [0, 2]].astype(bool), whole[:, 3:].astype(np.int8)
        return Forks(flags[:, 0], told[:, 1], whole[:, 1], flags[:, 1], ways[:, 0], ways[:, 1])

    def _number(self, table: int, low: float, high: float, missing: int) -> int:
        key = table, low, high, missing
        if key not in self._numbers:
            span = ANYTHING if missing == _NOT_ASKED else Span(low, high, bool(missing))
            self._numbers[key] = len(self._told)
            self._told.append(self._row(decide(self.splits[table], span, sets=self.sets)))
        return self._numbers[key]

    def _row(self, fork: bool | Fork) -> tuple[float, ...]:
        """The fields of ``Forks`` as numbers."""
        if isinstance(fork, bool):
            return False, 0.0, -1, False, fork, fork
        if fork.members:
            self.members.append(fork.members)
        ways = (_AGAIN if way is None else int(way) for way in (fork.true, fork.false))
        return True, fork.cut, len(self.members) - 1 if fork.members else -1, fork.missing, *ways


def grown(trees: Sequence[Tree], splits: Splits, region: Region, targets: Sequence[int]) -> Branches:
    """All trees, by cuts alone unless that takes many more nodes than the trees have. See :func:`grow`."""
    plain = _grown(trees, splits, region, targets, sets=False, room=_ROOM)
    return grow(trees, splits, region, targets, sets=True) if plain is None else plain


def grow(
    trees: Sequence[Tree], splits: Splits, region: Region, targets: Sequence[int], *, sets: bool = False
) -> Branches:
    """All trees; ``sets``: nodes may compare with sets of values. ``region`` is what is known at their roots.

    O(nodes and copies · columns of which something may be known), in Python only once a level and once a table's node.
    """
    branches = _grown(trees, splits, region, targets, sets=sets, room=np.inf)
    assert branches is not None  # there is always room
    return branches


def _grown(
    trees: Sequence[Tree], splits: Splits, region: Region, targets: Sequence[int], *, sets: bool, room: float
) -> Branches | None:
    """None where, up to some tree, the nodes are more than ``room`` and ``_GROWTH`` times those of the trees."""
    parts: list[Branches] = []
    for start, end in _batches(trees, splits, region):
        rooms = room + _GROWTH * np.cumsum([np.count_nonzero(~tree.leaf) for tree in trees[start:end]])
        part = _grow(_forest(trees, splits, start, end), region, np.array(targets[start:end]), sets, rooms[-1])
        if part is None or (np.append(part.roots[1:], len(part.features)) > rooms).any():
            return None
        room = float(rooms[-1]) - len(part.features)
        parts.append(part)
    return together(parts)


def _batches(trees: Sequence[Tree], splits: Splits, region: Region) -> list[tuple[int, int]]:
    """Runs of trees whose places hold about ``_BATCH`` spans at most, from tree to tree."""
    columns = 1 + len({split.column for split in splits.tables} | set(region))
    batch = np.cumsum([len(tree.leaf) for tree in trees]) * columns // _BATCH
    starts = np.flatnonzero(np.diff(batch, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(trees)], strict=True))


def _forest(trees: Sequence[Tree], splits: Splits, start: int, end: int) -> Forest:
    sizes = [len(tree.leaf) for tree in trees[start:end]]
    first = sum(len(tree.leaf) for tree in trees[:start])
    roots = np.cumsum([0, *sizes])[:-1]
    tree = np.repeat(np.arange(len(sizes)), sizes)
    left = np.concatenate([each.left for each in trees[start:end]]) + roots[tree]
    right = np.concatenate([each.right for each in trees[start:end]]) + roots[tree]
    value = np.concatenate([each.value for each in trees[start:end]])
    return Forest(left, right, tree, roots, value, splits.part(first, first + sum(sizes)))


def _grow(forest: Forest, region: Region, targets: Ints, sets: bool, room: float) -> Branches | None:
    """The trees of a forest; None as soon as they take more nodes than ``room``."""
    columns, slots = _slots(forest, region)
    front = _roots(forest, columns, region)
    tables = Tables(forest.splits.tables, sets)
    turns: list[Made] = []
    count = asking = 0
    while len(front.node):
        made, front = _turn(forest, slots, tables, front, count)
        turns.append(made)
        count += len(made.node)
        asking += int(np.count_nonzero(made.column >= 0))
        if asking > room:
            return None
    return _numbered(forest, turns, tables, targets)


def _slots(forest: Forest, region: Region) -> tuple[Ints, Ints]:
    """The columns of which something may be known, and by tree and column its position among them.

    A tree knows what ``region`` says, and what it asks of columns that it has tables of; the last position is for all others.
    """
    splits = forest.splits
    many = np.array([len(split.cuts) > 1 for split in splits.tables], dtype=bool)
    nodes = np.flatnonzero(splits.table >= 0)
    nodes = nodes[many[splits.table[nodes]]]
    known = np.zeros((len(forest.roots), 1 + max(int(splits.column.max()), *region, 0)), dtype=bool)
    known[forest.tree[nodes], splits.column[nodes]] = True
    known[:, list(region)] = True
    columns = np.flatnonzero(known.any(axis=0))
    position = np.full(known.shape[1], len(columns))
    position[columns] = np.arange(len(columns))
    return columns, np.where(known, position, len(columns))


def _roots(forest: Forest, columns: Ints, region: Region) -> Front:
    shape, none = (len(forest.roots), len(columns) + 1), np.full(len(forest.roots), -1)
    front = Front(
        forest.roots, none, none, np.full(shape, -np.inf), np.full(shape, np.inf), np.full(shape, _NOT_ASKED, np.int8)
    )
    for i, column in enumerate(columns.tolist()):
        if column in region:
            front.low[:, i], front.high[:, i], front.missing[:, i] = region[column]
    return front


def _turn(forest: Forest, slots: Ints, tables: Tables, front: Front, count: int) -> tuple[Made, Front]:
    """What comes of open places, numbered from ``count`` on, and the places that are open then."""
    column = forest.splits.column[front.node]
    ends = (column < 0) & (front.parent >= 0)
    leaves, front, column = _picked(front, ends), _picked(front, ~ends), np.maximum(column[~ends], 0)
    slot = slots[forest.tree[front.node], column]
    forks = _decided(forest.splits, tables, front, slot)
    asks = forks.asks
    moving = _picked(front, ~asks)
    moving = moving._replace(node=_ways(forest, moving.node, forks.true[~asks]))
    asking, forks, column = _picked(front, asks), _picked(forks, asks), column[asks]
    number = count + len(leaves.node) + np.arange(len(column))
    none = np.full(len(leaves.node), -1)
    made = (
        Made(leaves.node, leaves.parent, leaves.side, none, none * 0.0, none, none > 0),
        Made(asking.node, asking.parent, asking.side, column, forks.cut, forks.members, forks.missing),
    )
    return _joined(made), _joined((moving, *_sides(forest, asking, forks, slot[asks], number)))


def _picked(arrays: _Arrays, which: Bools) -> _Arrays:
    rows = np.flatnonzero(which)
    return _like(arrays, (array[rows] for array in arrays))


def _joined(parts: Sequence[_Arrays]) -> _Arrays:
    return _like(parts[0], (np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _like(record: _Arrays, arrays: Iterable[npt.NDArray[Any]]) -> _Arrays:
    make: Any = type(record)
    made: _Arrays = make(*arrays)
    return made


def _ways(forest: Forest, node: Ints, way: Small) -> Ints:
    """The nodes that places at ``node`` go on to."""
    return np.where(way == _AGAIN, node, np.where(way == _LEFT, forest.left[node], forest.right[node]))


def _decided(splits: Splits, tables: Tables, front: Front, slot: Ints) -> Forks:
    """``decide`` for every place. A root that is a leaf asks for the sake of asking: a node with that leaf on both sides."""
    row = np.arange(len(slot))
    low, high, missing = front.low[row, slot], front.high[row, slot], front.missing[row, slot]
    node = front.node
    forks = _of_one_cut(splits.cut[node], splits.below[node], splits.missing[node], low, high, missing)
    arrays: tuple[npt.NDArray[Any], ...] = forks
    held = splits.table[node] >= 0
    if held.any():
        told = tables.decide(splits.table[node][held], low[held], high[held], missing[held])
        for array, answers in zip(arrays, told, strict=True):
            array[held] = answers
    lone = splits.column[node] < 0
    for array, answer in zip(arrays, (True, 0.0, -1, True, _AGAIN, _AGAIN), strict=True):
        array[lone] = answer
    return forks


def _of_one_cut(cut: Doubles, below: Bools, missing_left: Bools, low: Doubles, high: Doubles, missing: Small) -> Forks:
    """``decide`` for splits of one cut whose two sides differ."""
    fresh, strays = missing == _NOT_ASKED, missing > 0
    under = fresh | (cut > low) | (low == -np.inf)
    over = fresh | (cut < high)
    way = np.where(under, below, np.where(over, ~below, missing_left | ~strays))
    apart = strays & (missing_left != way) & (under | over)  # only NaN goes the other way
    both = under & over
    return Forks(
        both | apart,
        np.where(both, cut, np.inf),
        np.full(len(cut), -1),
        both & strays & (missing_left == below),
        way.astype(np.int8),
        (~way).astype(np.int8),
    )


def _sides(forest: Forest, asking: Front, forks: Forks, slot: Ints, number: Ints) -> tuple[Front, Front]:
    """The places on both sides of nodes called ``number``, which know what the answer tells of the column in ``slot``."""
    row, count, none = np.arange(len(slot)), len(slot), asking.low.shape[1] - 1
    strays, sets = asking.missing[row, slot] > 0, forks.members >= 0
    out = []
    for side, way, missing in ((_TRUE, forks.true, forks.missing), (_FALSE, forks.false, ~forks.missing)):
        low, high, held = asking.low.copy(), asking.high.copy(), asking.missing.copy()
        if side == _TRUE:
            high[row, slot] = np.minimum(high[row, slot], np.where(sets, np.inf, forks.cut))
        else:
            low[row, slot] = np.maximum(low[row, slot], np.where(sets, -np.inf, forks.cut))
        held[row, slot] = strays & missing
        low[:, none], high[:, none], held[:, none] = -np.inf, np.inf, _NOT_ASKED
        out.append(Front(_ways(forest, asking.node, way), number, np.full(count, side), low, high, held))
    return out[0], out[1]


def _numbered(forest: Forest, turns: Sequence[Made], tables: Tables, targets: Ints) -> Branches:
    """The arrays of what was made, in the order in which a walk in depth meets it. A tree's leaf is one leaf, however often met."""
    made = _joined(turns)
    place = _in_depth(made, [len(turn.node) for turn in turns], forest.tree)
    order = np.empty_like(place)
    order[place] = np.arange(len(place))
    asks = made.column[order] >= 0
    nodes, leaves = order[asks], made.node[order[~asks]]
    first = np.empty(len(forest.tree), dtype=np.int64)
    first[leaves[::-1]] = np.arange(len(leaves))[::-1]
    new = first[leaves] == np.arange(len(leaves))
    index = np.empty_like(place)  # of everything made, among the nodes or among the leaves
    index[nodes] = np.arange(len(nodes))
    index[order[~asks]] = (np.cumsum(new) - 1)[first[leaves]]
    children = np.empty((len(nodes), 4), dtype=np.int64)
    hangs = made.parent >= 0
    parent, side = index[made.parent[hangs]], 2 * made.side[hangs]
    children[parent, side], children[parent, side + 1] = index[hangs], made.column[hangs] < 0
    chosen = made.members[nodes]
    return Branches(
        features=made.column[nodes],
        cuts=made.cut[nodes],
        modes=np.where(chosen < 0, LEQ, MEMBER).astype(np.uint8),
        children=children,
        missing=made.missing[nodes],
        members=np.array(
            [value for number in chosen[chosen >= 0].tolist() for value in (*tables.members[number], np.nan)]
        ),
        roots=np.sort(index[~hangs]),
        weights=forest.value[leaves[new]],
        targets=targets[forest.tree[leaves[new]]],
        sets=tables.sets,
    )


def _in_depth(made: Made, turns: Sequence[int], tree: Ints) -> Ints:
    """Where a walk in depth, tree after tree, meets each thing made; ``turns`` says how many were made at a time."""
    ends = np.cumsum(turns)
    later = [start + np.flatnonzero(made.parent[start:end] >= 0) for start, end in zip(ends - turns, ends, strict=True)]
    size, false_size = np.ones(len(made.node), dtype=np.int64), np.zeros(len(made.node), dtype=np.int64)
    for things in reversed(later):  # what hangs on a thing was made after it
        for side in (_TRUE, _FALSE):
            mine = things[made.side[things] == side]
            size[made.parent[mine]] += size[mine]
            if side == _FALSE:
                false_size[made.parent[mine]] = size[mine]
    place = np.zeros_like(size)
    roots = np.flatnonzero(made.parent < 0)
    roots = roots[np.argsort(tree[made.node[roots]])]
    place[roots] = np.cumsum(size[roots]) - size[roots]
    for things in later:
        parent = made.parent[things]
        place[things] = place[parent] + 1 + np.where(made.side[things] == _TRUE, false_size[parent], 0)
    return place
