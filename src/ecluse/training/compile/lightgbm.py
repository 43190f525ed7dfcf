"""LightGBM models, read from the booster's own JSON: doubles throughout, missing values, splits over sets of categories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, distribution, sigmoid, unsupported
from ecluse.training.compile.columns import Columns, numbers
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.trees import SetSplits, Tree, ensemble

_IDENTITY = {"regression", "regression_l1", "huber", "fair", "quantile", "mape"}
_EXP = {"poisson", "gamma", "tweedie"}

Json = dict[str, Any]


def lightgbm(graph: Graph, model: Any, columns: Columns) -> Answer:
    """LGBMClassifier and LGBMRegressor (boosting gbdt, dart, rf; not linear trees)."""
    dump: Json = model.booster_.dump_model()
    x = numbers(graph, columns, type(model).__name__)
    splits = SetSplits(len(columns))
    kinds = int(dump["num_tree_per_iteration"])
    trees = [_tree(model, info, splits) for info in dump["tree_info"]]
    raw = ensemble(graph, splits.append(graph, x), trees, [i % kinds for i in range(len(trees))])
    if dump["average_output"]:
        raw = graph.node("Div", raw, graph.constant(np.array(float(len(trees) // kinds))))
    return _linked(graph, model, dump.get("objective", ""), raw)


def _linked(graph: Graph, model: Any, objective: str, raw: str) -> Answer:
    name, *words = objective.split()
    options = dict(word.split(":") for word in words if ":" in word)
    if name == "binary":
        steep = graph.node("Mul", raw, graph.constant(np.array(float(options["sigmoid"]))))
        return Answer(sigmoid(graph, steep), classes=model.classes_)
    if name == "multiclass":
        return distribution(graph, raw, model.classes_)
    if name in _EXP:
        return Answer(graph.node("Exp", raw))
    if name in _IDENTITY and "sqrt" not in words:
        return Answer(raw)
    cure = "use binary, multiclass, or one of the regression objectives without reg_sqrt"
    raise unsupported(model, f"objective {objective!r}", cure)


def _tree(model: Any, info: Json, splits: SetSplits) -> Tree:
    nodes = list(_walk(info["tree_structure"]))
    if any("leaf_coeff" in node for node in nodes):
        raise unsupported(model, "linear trees", "leave linear_tree=False")
    place = {id(node): i for i, node in enumerate(nodes)}
    leaf = np.array(["leaf_value" in node for node in nodes])
    feature, left, right = (np.zeros(len(nodes), dtype=np.int64) for _ in range(3))
    threshold = np.zeros(len(nodes))
    missing = np.zeros(len(nodes), dtype=bool)
    for i in np.flatnonzero(~leaf):
        node = nodes[i]
        left[i], right[i] = place[id(node["left_child"])], place[id(node["right_child"])]
        feature[i], threshold[i], missing[i] = _split(model, node, splits)
    value = np.array([node.get("leaf_value", 0.0) for node in nodes], dtype=np.float64)
    return Tree(feature, threshold, left, right, leaf, missing, value)


def _split(model: Any, node: Json, splits: SetSplits) -> tuple[int, float, bool]:
    feature = int(node["split_feature"])
    if node["missing_type"] == "Zero":
        raise unsupported(model, "zero_as_missing", "leave zero_as_missing=False and give missing values as missing")
    if node["decision_type"] == "==":  # missing and unseen go right
        inside = np.array([int(word) for word in str(node["threshold"]).split("||")])
        goes_left = np.zeros(int(inside.max()) + 3, dtype=bool)
        goes_left[inside + 2] = True
        return splits.column(feature, goes_left), 0.5, False
    threshold = float(node["threshold"])
    # a feature without missing values in training reads them as zero
    left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0.0
    return feature, threshold, left


def _walk(root: Json) -> Iterator[Json]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if "left_child" in node:
            stack += [node["right_child"], node["left_child"]]
