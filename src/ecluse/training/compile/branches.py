"""Branches: trees whose splits cut a column into many pieces, as nodes that each know one cut or one set of values.

A set of categories that is not a run of codes takes several cuts, and the subtree that follows is written once for each run:
onnxruntime is faster when all nodes compare alike, and refuses to share subtrees. What a path already knows of a column
is used, so that no node asks in vain. Where the copies become too many, one node compares with a set of values instead. Such
a node never takes NaN: onnxruntime joins two of them that lead to equal leaves, and forgets where the second would send it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ecluse.training.compile.tree import Split, Tree

LEQ, MEMBER = 0, 6
"""Modes of nodes, as ``TreeEnsemble`` numbers them."""

_GROWTH, _ROOM = 1.5, 1000  # copies are worth it up to this many nodes for each of the trees, and some


class Span(NamedTuple):
    """What a column may hold: numbers above ``low`` up to ``high``, and NaN where ``missing``."""

    low: float
    high: float
    missing: bool


_PLAIN = ((True, False), (False, True))
_ANYTHING = Span(-np.inf, np.inf, True)
Region = Mapping[int, Span]
"""Columns of which more is known than nothing."""


class Fork(NamedTuple):
    """One node: the true side is taken up to ``cut``, or for ``members``, and for NaN where ``missing``.

    ``true`` and ``false`` say whether that side is the tree's left one; None: the same split is to be asked again there.
    """

    cut: float
    members: tuple[float, ...]
    missing: bool
    true: bool | None
    false: bool | None


def decide(split: Split, span: Span = _ANYTHING, *, sets: bool = False) -> bool | Fork:
    """How to ask for a split where the column lies within ``span``: not at all (it goes left: True or False), or by a node.

    >>> decide(Split(0, (3.0,), (True, False), missing=False))
    Fork(cut=3.0, members=(), missing=False, true=True, false=False)
    >>> decide(Split(0, (3.0,), (True, False), missing=False), Span(4.0, 9.0, False))
    False
    """
    if len(split.left) == 2 and span is _ANYTHING and split.left[0] != split.left[1]:  # most are of this kind
        return Fork(split.cuts[0], (), split.missing == split.left[0], *split.left)
    pieces = [i for i in range(len(split.left)) if _meets(split.cuts, i, span)]
    flags = [split.left[i] for i in pieces]
    ways = {*flags, *([split.missing] if span.missing else [])}
    if len(ways) < 2:
        return ways != {False}
    turns = [k for k in range(1, len(flags)) if flags[k] != flags[k - 1]]
    if not turns:
        return Fork(np.inf, (), False, flags[0], not flags[0])
    if len(turns) > 1 and sets and split.whole:
        inside = not split.left[-1]
        if span.missing and split.missing == inside:
            return Fork(np.inf, (), False, None, split.missing)
        members = tuple(split.cuts[i] for i in pieces if i < len(split.cuts) and split.left[i] == inside)
        return Fork(0.0, members, False, inside, not inside)
    turn = turns[len(turns) // 2]
    below, above = flags[:turn], flags[turn:]
    true, false = (side[0] if len(set(side)) == 1 else None for side in (below, above))
    return Fork(split.cuts[pieces[turn - 1]], (), span.missing and split.missing in below, true, false)


def accepted(refusals: Iterable[Split]) -> dict[int, Span]:
    """What columns may hold where no row is refused (refused: not left)."""
    region: dict[int, Span] = {}
    for split in refusals:
        kept = [i for i, left in enumerate(split.left) if left] or [0]
        low = split.cuts[kept[0] - 1] if kept[0] else -np.inf
        high = split.cuts[kept[-1]] if kept[-1] < len(split.cuts) else np.inf
        before = region.get(split.column, _ANYTHING)
        region[split.column] = Span(max(low, before.low), min(high, before.high), split.missing and before.missing)
    return region


@dataclass
class Branches:
    """The arrays of a TreeEnsemble while trees are added; ``sets``: nodes may compare with sets of values."""

    sets: bool = False
    features: list[int] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    children: list[list[int]] = field(default_factory=list)  # true, is a leaf, false, is a leaf
    missing: list[bool] = field(default_factory=list)
    members: list[float] = field(default_factory=list)  # sets in the order of their nodes, each ended by NaN
    roots: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def add(self, tree: Tree, splits: Sequence[Split | None], region: Region, target: int) -> None:
        """Append a tree; O(its nodes and copies)."""
        known = {split.column for split in splits if split and len(split.cuts) > 1} | set(region)
        left, right = tree.left.tolist(), tree.right.tolist()
        leaves: dict[int, int] = {}
        self.roots.append(len(self.features))
        pending: list[tuple[int, Region, int, int]] = [(0, region, -1, 0)]
        while pending:
            node, held, parent, side = pending.pop()
            fork: bool | Fork = True
            split = splits[node]
            if split is not None and split.column not in known and split.left in _PLAIN:
                place = self._plain(split, parent, side)
                true, false = (left, right) if split.left[0] else (right, left)
                pending += [(true[node], held, place, 0), (false[node], held, place, 1)]
                continue
            while (split := splits[node]) is not None:
                fork = decide(split, held.get(split.column, _ANYTHING), sets=self.sets)
                if not isinstance(fork, bool):
                    break
                node = left[node] if fork else right[node]
            if split is None or isinstance(fork, bool):
                self._hang(parent, side, self._leaf(leaves, tree, node, target), leaf=True)
                continue
            place = self._node(split.column, fork)
            self._hang(parent, side, place, leaf=False)
            after = _after(held, split.column, fork) if split.column in known else (held, held)
            for k, way in enumerate((fork.true, fork.false)):
                pending.append((node if way is None else left[node] if way else right[node], after[k], place, k))

    def _plain(self, split: Split, parent: int, side: int) -> int:
        """A split of one cut of a column of which nothing is known, as most are: what :func:`decide` says of it, without asking."""
        place = len(self.features)
        self.features.append(split.column)
        self.cuts.append(split.cuts[0])
        self.modes.append(LEQ)
        self.missing.append(split.missing == split.left[0])
        self.children.append([0, 0, 0, 0])
        if parent >= 0:
            self.children[parent][2 * side] = place
        return place

    def _node(self, column: int, fork: Fork) -> int:
        self.features.append(column)
        self.cuts.append(fork.cut)
        self.modes.append(MEMBER if fork.members else LEQ)
        self.missing.append(fork.missing)
        self.children.append([0, 0, 0, 0])
        self.members += [*fork.members, np.nan] if fork.members else []
        return len(self.features) - 1

    def _leaf(self, leaves: dict[int, int], tree: Tree, node: int, target: int) -> int:
        if node not in leaves:
            leaves[node] = len(self.weights)
            self.weights.append(tree.value[node])
            self.targets.append(target)
        return leaves[node]

    def _hang(self, parent: int, side: int, child: int, *, leaf: bool) -> None:
        if parent >= 0:
            self.children[parent][2 * side : 2 * side + 2] = [child, int(leaf)]
        elif leaf:  # a tree of one leaf: a node with that leaf on both sides
            self._node(0, Fork(0.0, (), True, True, True))
            self.children[-1] = [child, 1, child, 1]


def grown(
    trees: Sequence[Tree], splits: Sequence[Sequence[Split | None]], region: Region, targets: Sequence[int]
) -> Branches:
    """All trees, by cuts alone unless that takes many more nodes than the trees have."""
    branches, room = Branches(), float(_ROOM)
    for tree, nodes, target in zip(trees, splits, targets, strict=True):
        branches.add(tree, nodes, region, target)
        room += _GROWTH * np.count_nonzero(~tree.leaf)
        if len(branches.features) > room:
            break
    else:
        return branches
    branches = Branches(sets=True)
    for tree, nodes, target in zip(trees, splits, targets, strict=True):
        branches.add(tree, nodes, region, target)
    return branches


def _meets(cuts: tuple[float, ...], piece: int, span: Span) -> bool:
    starts_below = piece == 0 or cuts[piece - 1] < span.high
    return starts_below and (piece == len(cuts) or cuts[piece] > span.low or span.low == -np.inf)


def _after(region: Region, column: int, fork: Fork) -> tuple[Region, Region]:
    """What is known on the true and on the false side."""
    span = region.get(column, _ANYTHING)
    true, false = span.missing and fork.missing, span.missing and not fork.missing
    if fork.members:
        spans = Span(span.low, span.high, true), Span(span.low, span.high, false)
    else:
        spans = Span(span.low, min(span.high, fork.cut), true), Span(max(span.low, fork.cut), span.high, false)
    return {**region, column: spans[0]}, {**region, column: spans[1]}
