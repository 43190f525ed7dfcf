"""LightGBM models, read from the booster's own JSON: doubles throughout, missing values, splits over sets of categories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, distribution, sigmoid, unsupported
from ecluse.training.compile.column import Columns
from ecluse.training.compile.columns import check_numbers
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.tree import Tree
from ecluse.training.compile.trees import ensemble

_IDENTITY = {"regression", "regression_l1", "huber", "fair", "quantile", "mape"}
_EXP = {"poisson", "gamma", "tweedie"}
_ZERO, _INFINITY = float(np.float32(1e-35)), 1e300

Json = dict[str, Any]


def lightgbm(graph: Graph, model: Any, columns: Columns) -> Answer:
    """LGBMClassifier and LGBMRegressor (boosting gbdt, dart, rf; not linear trees)."""
    dump: Json = model.booster_.dump_model()
    check_numbers(columns, type(model).__name__)
    kinds = int(dump["num_tree_per_iteration"])
    trees = [_tree(model, info) for info in dump["tree_info"]]

    def score(scale: float) -> str:
        raw = ensemble(graph, columns, trees, [i % kinds for i in range(len(trees))], scale=scale)
        if dump["average_output"]:
            raw = graph.node("Div", raw, graph.constant(np.array(float(len(trees) // kinds))))
        return raw

    return _linked(graph, model, dump.get("objective", ""), score)


def _linked(graph: Graph, model: Any, objective: str, score: Callable[[float], str]) -> Answer:
    name, *words = objective.split()
    options = dict(word.split(":") for word in words if ":" in word)
    if name == "binary":
        minus, steep = score(-1.0), float(options["sigmoid"])
        if steep != 1.0:
            minus = graph.node("Mul", minus, graph.constant(np.array(steep)))
        return Answer(sigmoid(graph, minus), classes=model.classes_)
    if name == "multiclass":
        return distribution(graph, score, model.classes_)
    if name in _EXP:
        return Answer(graph.node("Exp", score(1.0)))
    if name in _IDENTITY and "sqrt" not in words:
        return Answer(score(1.0))
    cure = "use binary, multiclass, or one of the regression objectives without reg_sqrt"
    raise unsupported(model, f"objective {objective!r}", cure)


def _tree(model: Any, info: Json) -> Tree:
    nodes = list(_walk(info["tree_structure"]))
    if any("leaf_coeff" in node for node in nodes):
        raise unsupported(model, "linear trees", "leave linear_tree=False")
    place = {id(node): i for i, node in enumerate(nodes)}
    leaf = np.array(["leaf_value" in node for node in nodes])
    feature, left, right = (np.zeros(len(nodes), dtype=np.int64) for _ in range(3))
    threshold = np.zeros(len(nodes))
    missing = np.zeros(len(nodes), dtype=bool)
    sets: dict[int, np.ndarray] = {}
    for i in np.flatnonzero(~leaf).tolist():
        node = nodes[i]
        if node["missing_type"] == "Zero":
            cure = "leave zero_as_missing=False and give missing values as missing"
            raise unsupported(model, "zero_as_missing", cure)
        feature[i], left[i], right[i] = (
            node["split_feature"],
            place[id(node["left_child"])],
            place[id(node["right_child"])],
        )
        if node["decision_type"] == "==":
            sets[i] = _set(node)
        else:
            threshold[i] = _threshold(float(node["threshold"]))
            # a feature without missing values in training reads them as zero
            missing[i] = node["default_left"] if node["missing_type"] == "NaN" else threshold[i] >= 0.0
    value = np.array([node.get("leaf_value", 0.0) for node in nodes], dtype=np.float64)
    return Tree(feature, threshold, left, right, leaf, missing, value, sets)


def _threshold(told: float) -> float:
    """The threshold that plain comparison needs: infinity is told as 1e300, and numbers up to 1e-35 are read as zero."""
    if told >= _INFINITY:
        return float(np.inf)
    if abs(told) > _ZERO:
        return told
    return _ZERO if told >= 0.0 else float(np.nextafter(-_ZERO, -np.inf))


def _set(node: Json) -> np.ndarray:
    """Flags of the categories that go left; missing and unseen go right."""
    inside = np.array([int(word) for word in str(node["threshold"]).split("||")])
    flags = np.zeros(int(inside.max()) + 3, dtype=bool)
    flags[inside + 2] = True
    return flags


def _walk(root: Json) -> Iterator[Json]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if "left_child" in node:
            stack += [node["right_child"], node["left_child"]]
