"""Branches: trees whose splits cut a column into many pieces, as nodes that each know one cut or one set of values.

A set of categories that is not a run of codes takes several cuts, and the subtree that follows is written once for each run:
onnxruntime is faster when all nodes compare alike, and refuses to share subtrees. What a path already knows of a column
is used, so that no node asks in vain. Where the copies become too many, one node compares with a set of values instead. Such
a node never takes NaN: onnxruntime joins two of them that lead to equal leaves, and forgets where the second would send it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.tree import Bools, Doubles, Ints, Split

LEQ, MEMBER = 0, 6
"""Modes of nodes, as ``TreeEnsemble`` numbers them."""


class Span(NamedTuple):
    """What a column may hold: numbers above ``low`` up to ``high``, and NaN where ``missing``."""

    low: float
    high: float
    missing: bool


ANYTHING = Span(-np.inf, np.inf, True)
"""A column of which nothing is known."""
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


def decide(split: Split, span: Span = ANYTHING, *, sets: bool = False) -> bool | Fork:
    """How to ask for a split where the column lies within ``span``: not at all (it goes left: True or False), or by a node.

    >>> decide(Split(0, (3.0,), (True, False), missing=False))
    Fork(cut=3.0, members=(), missing=False, true=True, false=False)
    >>> decide(Split(0, (3.0,), (True, False), missing=False), Span(4.0, 9.0, False))
    False
    """
    if len(split.left) == 2 and span is ANYTHING and split.left[0] != split.left[1]:
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
        before = region.get(split.column, ANYTHING)
        region[split.column] = Span(max(low, before.low), min(high, before.high), split.missing and before.missing)
    return region


@dataclass(frozen=True)
class Branches:
    """The arrays of a TreeEnsemble: over its nodes, its leaves (``weights`` and ``targets``) and its trees (``roots``).

    ``children`` [nodes, 4]: true, is that a leaf, false, is that a leaf. ``members``: sets in the order of their nodes, each
    ended by NaN. ``sets``: nodes may compare with sets of values.
    """

    features: Ints
    cuts: Doubles
    modes: npt.NDArray[np.uint8]
    children: Ints
    missing: Bools
    members: Doubles
    roots: Ints
    weights: npt.NDArray[np.floating]
    targets: Ints
    sets: bool = False


def together(parts: Sequence[Branches]) -> Branches:
    """Several as one, in their order; linear in their nodes."""
    nodes = np.cumsum([0, *(len(part.features) for part in parts)])
    leaves = np.cumsum([0, *(len(part.weights) for part in parts)])
    moved = [
        part.children + np.where(part.children[:, [1, 1, 3, 3]] == 1, leaf, node) * np.array([1, 0, 1, 0])
        for part, node, leaf in zip(parts, nodes, leaves, strict=False)
    ]
    return Branches(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.cuts for part in parts]),
        np.concatenate([part.modes for part in parts]),
        np.concatenate(moved),
        np.concatenate([part.missing for part in parts]),
        np.concatenate([part.members for part in parts]),
        np.concatenate([part.roots + node for part, node in zip(parts, nodes, strict=False)]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.targets for part in parts]),
        parts[0].sets,
    )


def _meets(cuts: tuple[float, ...], piece: int, span: Span) -> bool:
    starts_below = piece == 0 or cuts[piece - 1] < span.high
    return starts_below and (piece == len(cuts) or cuts[piece] > span.low or span.low == -np.inf)
