"""Branches: whatever pieces a split has, the nodes written for it lead where the split says."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.training.compile.branches import Branches, Fork, Span, accepted, decide, grown
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.tree import Split, Tree
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
    branches = grown(some, found, {}, [0] * len(some))
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
    branches = Branches(sets=True)
    branches.add(tree, found, {}, 0)
    graph = Graph(1)
    scorer = OnnxScorer(graph.finish(node_of(graph, "x", branches, np.dtype(np.float64))))
    x = np.array([[-1.0], [0.0], [1.0], [2.0], [3.0], [4.0], [np.nan]])
    assert scorer.score(x)[:, 0].tolist() == [walked(tree, found, row) for row in x]
