"""Tree: a decision tree as arrays, Split: which values of its column one of its nodes sends left, Splits: those of many nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """One tree as parallel arrays over its nodes, node 0 the root; ``value`` counts at leaves, the rest elsewhere.

    A row goes left when ``x <= threshold``; at the nodes in ``sets``, when its category's flag is true: flags of [missing,
    unseen, category 0, 1, ...], those beyond the end are unseen.
    """

    feature: Ints
    threshold: npt.NDArray[np.floating]
    left: Ints
    right: Ints
    leaf: Bools
    missing_left: Bools
    value: npt.NDArray[np.floating]
    sets: Mapping[int, Bools] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """A split of column ``column``: the number line is cut up, and piece i goes left where ``left[i]``; NaN where ``missing``.

    Piece i reaches from ``cuts[i - 1]`` (excluded) to ``cuts[i]`` (included), the last to infinity. ``whole``: of a piece
    that ends in a cut, only that cut occurs.
    """

    column: int
    cuts: tuple[float, ...]
    left: tuple[bool, ...]
    missing: bool
    whole: bool = False


@dataclass(frozen=True)
class Splits:
    """The splits of all nodes of some trees, tree after tree, as parallel arrays; ``column`` is -1 at leaves.

    Most have one ``cut``: numbers up to it go left where ``below``, the others where not. Those that differ stand in
    ``tables``, at position ``table`` (-1: none). ``missing`` is where NaN goes left.
    """

    column: Ints
    cut: Doubles
    below: Bools
    missing: Bools
    table: Ints
    tables: tuple[Split, ...] = ()

    @classmethod
    def of(cls, splits: Sequence[Split | None]) -> Self:
        """All of them as tables; None at leaves.

        >>> Splits.of([Split(3, (0.5,), (True, False), missing=True), None, None]).column.tolist()
        [3, -1, -1]
        """
        held = [split for split in splits if split is not None]
        inner = np.array([split is not None for split in splits])
        none = np.zeros(len(splits), dtype=bool)
        column, table = np.full(len(splits), -1), np.full(len(splits), -1)
        column[inner], table[inner] = [split.column for split in held], np.arange(len(held))
        return cls(column, np.zeros(len(splits)), none, none.copy(), table, tuple(held))

    def part(self, start: int, end: int) -> Splits:
        """Those of some of the nodes."""
        rows = slice(start, end)
        return Splits(
            self.column[rows], self.cut[rows], self.below[rows], self.missing[rows], self.table[rows], self.tables
        )
