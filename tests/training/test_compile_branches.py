"""Branches: whatever pieces a split has, the nodes written for it lead where the split says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.training.compile import grow as growing
from ecluse.training.compile.branches import ANYTHING, Branches, Fork, Region, Span, accepted, decide
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.grow import grow, grown
from ecluse.training.compile.tree import Split, Splits, Tree
from ecluse.training.compile.trees import node_of

COLUMNS = 3


@st.composite
def splits(draw: st.DrawFn) -> Split:
    whole = draw(st.booleans())
    column = draw(st.integers(0, COLUMNS - 1))
    if whole:
        cuts = tuple(float(code) for code in range(-1, draw(st.integers(1, 70))))
    else:
        cuts = tuple(sorted(draw(st.sets(st.sampled_from([-np.inf, -1.5, -0.0, 5e-324, 1.0, 2.5, 1e300]), max_size=4))))
    left = tuple(draw(st.booleans()) for _ in range(len(cuts) + 1))
    return Split(column, cuts, left, draw(st.booleans()), whole)


def goes_left(split: Split, value: float) -> bool:
    return split.missing if np.isnan(value) else split.left[int(np.searchsorted(split.cuts, value))]


values = st.lists(st.integers(0, 1), min_size=13, max_size=13).map(lambda drawn: np.array(drawn, dtype=np.float64))


@st.composite
def trees(draw: st.DrawFn) -> tuple[Tree, list[Split | None]]:
    """A tree of random shape, with few different leaves: onnxruntime joins some nodes that lead to equal ones."""
    inner = draw(st.integers(0, 6))
    count = 2 * inner + 1
    left, right = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    open_nodes, nodes = [0], iter(range(1, count))
    found: list[Split | None] = [None] * count
    for _ in range(inner):
        at = open_nodes.pop(draw(st.integers(0, len(open_nodes) - 1)))
        left[at], right[at] = next(nodes), next(nodes)
        open_nodes += [int(left[at]), int(right[at])]
        found[at] = draw(splits())
    leaf = np.array([split is None for split in found])
    no = np.zeros(count, dtype=bool)
    return Tree(left, left * 0.0, left, right, leaf, no, draw(values)[:count]), found


def walked(tree: Tree, found: list[Split | None], row: np.ndarray) -> float:
    node = 0
    while (split := found[node]) is not None:
        node = int(tree.left[node] if goes_left(split, row[split.column]) else tree.right[node])
    return float(tree.value[node])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(trees(), min_size=1, max_size=4), st.booleans())
def test_nodes_lead_where_splits_say(forest: list[tuple[Tree, list[Split | None]]], crowded: bool) -> None:
    """By cuts alone and, where copies of subtrees would be many (``crowded``), by sets of values."""
    some = [tree for tree, _ in forest] * (30 if crowded else 1)
    found = [split for _, split in forest] * (30 if crowded else 1)
    branches = grown(some, Splits.of([split for one in found for split in one]), {}, [0] * len(some))
    graph = Graph(COLUMNS)
    scorer = OnnxScorer(graph.finish(node_of(graph, "x", branches, np.dtype(np.float64))))
    rng = np.random.default_rng(0)
    real = [-np.inf, -2.0, -1.5, -0.0, 0.0, 5e-324, 1.0, 2.5, 3.0, 1e300, np.inf, np.nan]
    code = np.array([*range(-1, 72), np.nan])
    whole = {split.column for one in found for split in one if split is not None and split.whole}
    columns = [rng.choice(code if i in whole else real, 120) for i in range(COLUMNS)]
    x = np.stack(columns, axis=1)
    told = [sum(walked(tree, split, row) for tree, split in zip(some, found, strict=True)) for row in x]
    assert scorer.score(x)[:, 0].tolist() == told


@given(splits(), st.floats(allow_nan=True))
def test_what_is_known_is_not_asked(split: Split, value: float) -> None:
    """A column that can hold one value only goes one way without a node."""
    below = math.nextafter(value, -math.inf)
    span = Span(below, value, False) if not np.isnan(value) else Span(0.0, 0.0, True)
    if below == -np.inf or np.isnan(below) != np.isnan(value):
        return
    assert decide(split, span) is goes_left(split, value)


def test_one_piece_and_missing_apart() -> None:
    assert decide(Split(0, (), (True,), missing=False)) == Fork(np.inf, (), False, True, False)
    assert decide(Split(0, (), (True,), missing=True)) is True


def test_accepted_is_what_every_refusal_accepts() -> None:
    words = Split(1, (-1.0, 0.0, 1.0), (False, True, True, False), missing=False)
    assert accepted([words]) == {1: Span(-1.0, 1.0, False)}
    assert accepted([words, Split(1, (), (True,), missing=True)]) == {1: Span(-1.0, 1.0, False)}


def test_neighbouring_sets_with_equal_leaves_keep_missing_apart() -> None:
    """Joined by onnxruntime 1.31, NaN must still pass the first and be caught by the second."""
    first = Split(0, (-1.0, 0.0, 1.0, 2.0, 3.0), (False, False, True, False, False, False), missing=False, whole=True)
    second = Split(0, first.cuts, (False, False, False, True, False, False), missing=True, whole=True)
    left, right = np.array([1, 0, 3, 0, 0]), np.array([2, 0, 4, 0, 0])
    leaf = np.array([False, True, False, True, True])
    tree = Tree(left, left * 0.0, left, right, leaf, ~leaf, np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
    found: list[Split | None] = [first, None, second, None, None]
    branches = grow([tree], Splits.of(found), {}, [0], sets=True)
    graph = Graph(1)
    scorer = OnnxScorer(graph.finish(node_of(graph, "x", branches, np.dtype(np.float64))))
    x = np.array([[-1.0], [0.0], [1.0], [2.0], [3.0], [4.0], [np.nan]])
    assert scorer.score(x)[:, 0].tolist() == [walked(tree, found, row) for row in x]


def one_by_one(forest: list[tuple[Tree, list[Split | None]]], region: Region, sets: bool) -> dict[str, list[Any]]:
    """The same nodes, made one after another by a walk in depth that carries what it knows."""
    out: dict[str, list[Any]] = {name: [] for name in ("features", "cuts", "members", "missing", "children", "weights")}
    for tree, found in forest:
        known = {split.column for split in found if split and len(split.cuts) > 1} | set(region)
        leaves: dict[int, int] = {}
        pending: list[tuple[int, dict[int, Span], int, int]] = [(0, dict(region), -1, 0)]
        while pending:
            node, held, parent, side = pending.pop()
            fork: bool | Fork = Fork(0.0, (), True, None, None)  # of a tree of one leaf
            while (split := found[node]) is not None:
                fork = decide(split, held.get(split.column, ANYTHING), sets=sets)
                if not isinstance(fork, bool):
                    break
                node = int(tree.left[node] if fork else tree.right[node])
            if split is None and parent >= 0:
                if node not in leaves:
                    leaves[node] = len(out["weights"])
                    out["weights"].append(float(tree.value[node]))
                out["children"][parent][2 * side : 2 * side + 2] = [leaves[node], 1]
                continue
            if split is None:
                fork, split = Fork(0.0, (), True, None, None), Split(0, (), (), missing=True)
            assert isinstance(fork, Fork)
            place = len(out["features"])
            for name, value in zip(
                out, (split.column, fork.cut, fork.members, fork.missing, [0, 0, 0, 0]), strict=False
            ):
                out[name].append(value)
            if parent >= 0:
                out["children"][parent][2 * side : 2 * side + 2] = [place, 0]
            span = held.get(split.column, ANYTHING)
            high, low = (span.high, span.low) if fork.members else (min(span.high, fork.cut), max(span.low, fork.cut))
            told = (
                Span(span.low, high, span.missing and fork.missing),
                Span(low, span.high, span.missing > fork.missing),
            )
            for k, way in enumerate((fork.true, fork.false)):
                after = {**held, split.column: told[k]} if split.column in known else held
                to = node if way is None else int(tree.left[node] if way else tree.right[node])
                pending.append((to, after, place, k))
    return out


def arrays(branches: Branches) -> dict[str, list[Any]]:
    """The same lists of grown branches."""
    ends = iter(np.split(branches.members, np.flatnonzero(np.isnan(branches.members)) + 1))
    return {
        "features": branches.features.tolist(),
        "cuts": branches.cuts.tolist(),
        "members": [tuple(next(ends)[:-1].tolist()) if mode else () for mode in branches.modes.tolist()],
        "missing": branches.missing.tolist(),
        "children": branches.children.tolist(),
        "weights": branches.weights.tolist(),
    }


def in_arrays(found: list[Split | None]) -> Splits:
    """Splits of one cut as such, not as tables."""
    splits = Splits.of(found)
    for node, split in enumerate(found):
        if split is not None and len(split.left) == 2 and split.left[0] != split.left[1]:
            splits.table[node], splits.cut[node] = -1, split.cuts[0]
            splits.below[node], splits.missing[node] = split.left[0], split.missing
    return splits


regions = st.dictionaries(
    st.integers(0, COLUMNS - 1),
    st.builds(Span, st.sampled_from([-np.inf, -1.5, 0.0]), st.sampled_from([1.0, 2.5, np.inf]), st.booleans()),
    max_size=2,
)


@pytest.mark.parametrize("batch", [1, 1 << 20])
@settings(max_examples=300, deadline=None, derandomize=True)
@given(forest=st.lists(trees(), min_size=1, max_size=4), region=regions, sets=st.booleans())
def test_grown_at_once_as_one_by_one(
    forest: list[tuple[Tree, list[Split | None]]], region: Region, sets: bool, batch: int
) -> None:
    """All trees together, level by level: node for node what a walk down each of them makes. Also where trees are grown apart."""
    found = [split for _, one in forest for split in one]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "_BATCH", batch)
        for splits in (Splits.of(found), in_arrays(found)):
            made = grow([tree for tree, _ in forest], splits, region, range(len(forest)), sets=sets)
            assert arrays(made) == one_by_one(forest, region, sets)
