"""Tables: what encoded columns add to a weighted sum, for each value of the column of ``x`` they were made from.

The one-hot columns of a category, weighted and summed, are one number for each word. A small tree finds it in the raw code, so
that the encoder leaves the graph; and a TreeEnsemble adds up what such trees find.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.column import Columns
from ecluse.training.compile.fold import places_of, refusals
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.grow import grow
from ecluse.training.compile.tree import Split, Splits, Tree
from ecluse.training.compile.trees import add_guards, node_of

Doubles = npt.NDArray[np.float64]


class Table(NamedTuple):
    """Numbers by the pieces of column ``column`` between ``cuts``: ``values`` double [pieces, K], ``missing`` double [K]."""

    column: int
    cuts: tuple[float, ...]
    values: Doubles
    missing: Doubles


def weighted_tables(graph: Graph, columns: Columns, weights: Doubles, base: Doubles) -> str:
    """``base`` [K] plus the sum of ``columns``, all with pieces, by ``weights`` [columns, K]: double [n, K].

    O(K · log(words)) a column of ``x`` and row. Rows the graph refuses are NaN.
    """
    tables = _tables(graph, columns, weights)
    made = [_tree(table, k, base[k] if i == 0 else 0.0) for i, table in enumerate(tables) for k in range(len(base))]
    splits = Splits.of([split for _, asked in made for split in asked])
    branches = grow([tree for tree, _ in made], splits, {}, [*range(len(base))] * len(tables))
    return node_of(graph, "x", add_guards(branches, refusals(graph)[1], len(base), base.dtype), base.dtype)


def _tables(graph: Graph, columns: Columns, weights: Doubles) -> list[Table]:
    """One table for each column of ``x`` and its cuts."""
    parts: dict[tuple[int, tuple[float, ...]], list[Doubles]] = defaultdict(list)
    places = places_of(graph, list(dict.fromkeys(columns)))
    for column, weight in zip(columns, weights, strict=True):
        place = places[column]
        parts[place.input, place.cuts or ()].append(np.outer([*place.values, place.missing], weight))
    sums = {key: np.sum(part, axis=0) for key, part in parts.items()}
    return [Table(column, cuts, told[:-1], told[-1]) for (column, cuts), told in sums.items()]


def _tree(table: Table, k: int, base: float) -> tuple[Tree, list[Split | None]]:
    """A tree that finds column ``k`` of a table: first whether the value is missing, then its piece by halves."""
    values = base + table.values[:, k]
    splits: list[Split | None] = [Split(table.column, (), (True,), missing=False), None, None]
    left, right, told = [1, 0, 0], [2, 0, 0], [0.0, 0.0, base + float(table.missing[k])]
    pending = [(1, 0, len(values))]
    while pending:
        node, start, end = pending.pop()
        turns = start + 1 + np.flatnonzero(values[start + 1 : end] != values[start : end - 1])
        if not len(turns):
            told[node] = float(values[start])
            continue
        turn = int(turns[len(turns) // 2])
        splits[node] = Split(table.column, (table.cuts[turn - 1],), (True, False), missing=False)
        left[node], right[node] = len(left), len(left) + 1
        pending += [(left[node], start, turn), (right[node], turn, end)]
        for grown in (left, right):
            grown += [0, 0]
        told += [0.0, 0.0]
        splits += [None, None]
    leaf = np.array([split is None for split in splits])
    nodes = np.array(left), np.array(right)
    return Tree(nodes[0], leaf * 0.0, *nodes, leaf, leaf, np.array(told)), splits
