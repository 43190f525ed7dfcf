"""Trees: an ensemble of decision trees as one ONNX TreeEnsemble, splits and leaves in the precision of the trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ecluse.training.compile.branches import Branches, accepted, together
from ecluse.training.compile.column import Columns
from ecluse.training.compile.fold import fold
from ecluse.training.compile.graph import INT64, ML, Graph
from ecluse.training.compile.grow import grow, grown
from ecluse.training.compile.tree import Split, Splits, Tree


def ensemble(
    graph: Graph,
    columns: Columns,
    trees: Sequence[Tree],
    targets: Sequence[int],
    *,
    strict: bool = False,
    base: npt.ArrayLike = 0.0,
    scale: float = 1.0,
) -> str:
    """``scale`` times (``base`` plus the sums of leaf values) by target, [n, max(targets) + 1], in the trees' precision.

    Sums run tree after tree, beginning with ``base``. Rows the graph refuses are NaN. O(depth) a tree and row.
    """
    folded = fold(graph, columns, trees, strict=strict)
    count = max(targets) + 1
    based = [_scaled(tree, scale) for tree in _based(trees, targets, np.broadcast_to(base, count))]
    branches = grown(based, folded.splits, accepted(folded.refusals), targets)
    branches = add_guards(branches, folded.new, count, trees[0].value.dtype)
    return node_of(graph, folded.x, branches, trees[0].value.dtype)


def leaf_rows(graph: Graph, columns: Columns, trees: Sequence[Tree]) -> str:
    """Sum over trees of the leaves' rows of values ([nodes, K] in ``Tree.value``), double [n, K].

    ONNX leaves hold one number, so the trees answer with the leaf's position and the rows are gathered.
    """
    folded = fold(graph, columns, trees)
    rows, numbered, start = [], [], 0
    width = trees[0].value.shape[1]
    guards = [replace(_guard(np.dtype(np.float64)), value=np.array([[0.0], [0.0], [np.nan]]) * np.ones(width))] * len(
        folded.new
    )
    for tree in (*trees, *guards):
        held = tree.value[tree.leaf]
        ids = np.zeros(len(tree.leaf))
        ids[tree.leaf] = np.arange(start, start + len(held))
        numbered.append(replace(tree, value=ids))
        rows.append(held)
        start += len(held)
    branches = grown(numbered[: len(trees)], folded.splits, accepted(folded.refusals), range(len(trees)))
    branches = _guarded(branches, numbered[len(trees) :], folded.new, range(len(trees), len(numbered)))
    ids_name = graph.node("Cast", node_of(graph, folded.x, branches, np.dtype(np.float64)), to=INT64)
    picked = graph.node("Gather", graph.constant(np.concatenate(rows)), ids_name, axis=0)
    return graph.node("ReduceSum", picked, graph.constant(np.array([1])), keepdims=0, width=width)


def add_guards(branches: Branches, refusals: Sequence[Split], count: int, dtype: np.dtype[np.floating]) -> Branches:
    """With trees that make all ``count`` answers NaN for the rows that ``refusals`` send right."""
    asked = [split for split in refusals for _ in range(count)]
    return _guarded(branches, [_guard(dtype)] * len(asked), asked, [*range(count)] * len(refusals))


def node_of(graph: Graph, x: str, branches: Branches, dtype: np.dtype[np.floating]) -> str:
    """The TreeEnsemble node."""
    count = int(branches.targets.max()) + 1
    children = branches.children
    sets = {"membership_values": branches.members.astype(dtype)} if len(branches.members) else {}
    return graph.node(
        "TreeEnsemble",
        x,
        domain=ML,
        width=count,
        n_targets=count,
        aggregate_function=1,  # sum
        post_transform=0,
        tree_roots=branches.roots.tolist(),
        nodes_modes=branches.modes,
        nodes_featureids=branches.features.tolist(),
        nodes_splits=branches.cuts.astype(dtype),
        nodes_truenodeids=children[:, 0].tolist(),
        nodes_trueleafs=children[:, 1].tolist(),
        nodes_falsenodeids=children[:, 2].tolist(),
        nodes_falseleafs=children[:, 3].tolist(),
        nodes_missing_value_tracks_true=branches.missing.astype(np.int64).tolist(),
        leaf_targetids=branches.targets.tolist(),
        leaf_weights=branches.weights.astype(dtype),
        **sets,
    )


def _based(trees: Sequence[Tree], targets: Sequence[int], base: npt.NDArray[np.floating]) -> list[Tree]:
    """Trees of which the first of each target begins with its ``base``, added in the trees' precision."""
    begun: set[int] = set()
    out = []
    for tree, target in zip(trees, targets, strict=True):
        out.append(tree if target in begun else replace(tree, value=tree.value.dtype.type(base[target]) + tree.value))
        begun.add(target)
    return out


def _scaled(tree: Tree, scale: float) -> Tree:
    return tree if scale == 1.0 else replace(tree, value=tree.value * tree.value.dtype.type(scale))


def _guarded(branches: Branches, guards: Sequence[Tree], refusals: Sequence[Split], targets: Sequence[int]) -> Branches:
    """With a tree for each refusal."""
    if not refusals:
        return branches
    splits = Splits.of([split for refusal in refusals for split in (refusal, None, None)])
    return together([branches, grow(guards, splits, {}, targets, sets=branches.sets)])


def _guard(dtype: np.dtype[np.floating]) -> Tree:
    """A tree that adds nothing to the left, NaN to the right."""
    root = np.array([True, False, False])
    none = np.zeros(3, dtype=np.int64)
    values = np.array([0.0, 0.0, np.nan], dtype=dtype)
    return Tree(none, values * 0.0, none + 1, none + 2, ~root, root, values)
