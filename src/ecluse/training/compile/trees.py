"""Trees: an ensemble of decision trees as one ONNX TreeEnsemble, splits and leaves in doubles.

A row goes to the true side of a node when ``x <= threshold`` (or ``x < threshold``, see ``strict``). Splits over sets of
categories read a 0/1 column each, looked up once a row, so that every node compares one number with one threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.columns import slots
from ecluse.training.compile.graph import INT64, ML, Graph

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_LEQ, _LT = 0, 1


@dataclass(frozen=True)
class Tree:
    """One tree as parallel arrays over its nodes, node 0 the root; ``value`` counts at leaves, the rest elsewhere."""

    feature: Ints
    threshold: npt.NDArray[np.floating]
    left: Ints
    right: Ints
    leaf: Bools
    missing_left: Bools
    value: npt.NDArray[np.floating]


@dataclass
class SetSplits:
    """The splits over sets of categories of one ensemble: each becomes a column behind the ``width`` ordinary ones."""

    width: int
    _rows: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def column(self, feature: int, goes_left: Bools) -> int:
        """The column that is 0.0 where a row goes left. ``goes_left``: [missing, unseen, category 0, 1, ...]."""
        key = (feature, np.where(goes_left, 0, 1).astype(np.uint8).tobytes())
        return self._rows.setdefault(key, self.width + len(self._rows))

    def append(self, graph: Graph, x: str) -> str:
        """``x`` with the columns of all splits behind it; O(number of splits) a row."""
        parts = [x]
        order: list[int] = []
        for feature in sorted({feature for feature, _ in self._rows}):
            mine = {key[1]: place for key, place in self._rows.items() if key[0] == feature}
            table = _table(list(mine))
            codes = graph.node("Gather", x, graph.constant(np.array([feature])), axis=1, width=1)
            where = slots(graph, codes, [len(table) - 3], [0])
            flat = graph.node("Reshape", where, graph.constant(np.array([-1])), width=1)
            parts.append(graph.node("Gather", graph.constant(table), flat, axis=0, width=len(mine)))
            order += mine.values()
        if not order:
            return x
        wide = graph.node("Concat", *parts, axis=1, width=self.width + len(order))
        back = np.concatenate([np.arange(self.width), self.width + np.argsort(order)])
        return graph.node("Gather", wide, graph.constant(back), axis=1, width=len(back))


def ensemble(graph: Graph, x: str, trees: Sequence[Tree], targets: Sequence[int], strict: bool = False) -> str:
    """Sums of leaf values by target, [n, max(targets) + 1], in the dtype of ``x``'s trees.

    Sums run tree after tree. O(depth) a tree and row.
    """
    dtype = trees[0].value.dtype
    node_lists, leaf_values, leaf_targets, roots = [], [], [], []
    nodes = leaves = 0
    for tree, target in zip(trees, targets, strict=True):
        part = _flatten(tree, nodes, leaves)
        roots.append(nodes)
        values = tree.value[tree.leaf]
        node_lists.append(part)
        leaf_values.append(values)
        leaf_targets += [target] * len(values)
        nodes, leaves = nodes + len(part["features"]), leaves + len(values)
    joined = {name: np.concatenate([part[name] for part in node_lists]) for name in node_lists[0]}
    count = max(targets) + 1
    return graph.node(
        "TreeEnsemble",
        x,
        domain=ML,
        width=count,
        n_targets=count,
        aggregate_function=1,  # sum
        post_transform=0,
        tree_roots=roots,
        nodes_modes=np.full(nodes, _LT if strict else _LEQ, dtype=np.uint8),
        nodes_featureids=joined["features"].tolist(),
        nodes_splits=joined["splits"].astype(dtype),
        nodes_truenodeids=joined["left"].tolist(),
        nodes_trueleafs=joined["left_leaf"].astype(int).tolist(),
        nodes_falsenodeids=joined["right"].tolist(),
        nodes_falseleafs=joined["right_leaf"].astype(int).tolist(),
        nodes_missing_value_tracks_true=joined["missing"].astype(int).tolist(),
        leaf_targetids=leaf_targets,
        leaf_weights=np.concatenate(leaf_values).astype(dtype),
    )


def leaf_rows(graph: Graph, x: str, trees: Sequence[Tree]) -> str:
    """Sum over trees of the leaves' rows of values ([nodes, K] in ``Tree.value``), double [n, K].

    ONNX leaves hold one number, so the trees answer with the leaf's position and the rows are gathered.
    """
    rows, numbered, start = [], [], 0
    for tree in trees:
        held = tree.value[tree.leaf]
        ids = np.zeros(len(tree.leaf))
        ids[tree.leaf] = np.arange(start, start + len(held))
        fields = (tree.feature, tree.threshold, tree.left, tree.right, tree.leaf, tree.missing_left)
        numbered.append(Tree(*fields, value=ids))
        rows.append(held)
        start += len(held)
    ids_name = ensemble(graph, x, numbered, range(len(trees)))
    values = np.concatenate(rows)
    picked = graph.node("Gather", graph.constant(values), graph.node("Cast", ids_name, to=INT64), axis=0)
    return graph.node("ReduceSum", picked, graph.constant(np.array([1])), keepdims=0, width=values.shape[1])


def _flatten(tree: Tree, first_node: int, first_leaf: int) -> dict[str, np.ndarray]:
    """Inner nodes and leaves numbered apart; a tree that is one leaf gets a node with that leaf on both sides."""
    if tree.leaf[0]:
        zero, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=bool)
        leaf = np.full(1, first_leaf)
        return {"features": zero, "splits": zero * 0.0, "left": leaf, "right": leaf} | dict.fromkeys(
            ("left_leaf", "right_leaf", "missing"), one
        )
    inner = ~tree.leaf
    place = np.where(tree.leaf, np.cumsum(tree.leaf) - 1 + first_leaf, np.cumsum(inner) - 1 + first_node)
    left, right = tree.left[inner], tree.right[inner]
    return {
        "features": tree.feature[inner],
        "splits": tree.threshold[inner],
        "left": place[left],
        "right": place[right],
        "left_leaf": tree.leaf[left],
        "right_leaf": tree.leaf[right],
        "missing": tree.missing_left[inner],
    }


def _table(columns: list[bytes]) -> npt.NDArray[np.float64]:
    """Columns of unequal length as one table; categories beyond a column's end are unseen to it, and so is the last row."""
    arrays = [np.frombuffer(column, dtype=np.uint8) for column in columns]
    length = max(map(len, arrays)) + 1
    filled = [np.concatenate([a, np.full(length - len(a), a[1], dtype=np.uint8)]) for a in arrays]
    return np.stack(filled, axis=1).astype(np.float64)
