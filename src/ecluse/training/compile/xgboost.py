"""XGBoost models, read from the booster's own JSON.

XGBoost computes in single precision: it compares single-precision inputs, adds single-precision leaves tree after tree to
the base score, and rounds the link's result. The compiled model does the same in the same order, so its margins are the
library's; probabilities may differ in the last single-precision bit (6e-8), where two exponentials round differently.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, constant_rows, unsupported
from ecluse.training.compile.column import Columns
from ecluse.training.compile.columns import check_numbers
from ecluse.training.compile.graph import DOUBLE, FLOAT, Graph
from ecluse.training.compile.tree import Tree
from ecluse.training.compile.trees import ensemble

_SIGMOID = {"binary:logistic", "reg:logistic"}
_SOFTMAX = {"multi:softprob", "multi:softmax"}
_EXP = {"count:poisson", "reg:gamma", "reg:tweedie"}
_IDENTITY = {
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "reg:pseudohubererror",
    "reg:squaredlogerror",
}

Json = dict[str, Any]


def xgboost(graph: Graph, model: Any, columns: Columns) -> Answer:
    """XGBClassifier and XGBRegressor with tree boosters and missing values as NaN."""
    if not (isinstance(model.missing, float) and np.isnan(model.missing)):
        raise unsupported(model, f"missing={model.missing!r}", "leave missing=nan")
    learner: Json = json.loads(model.get_booster().save_raw("json"))["learner"]
    booster, objective = learner["gradient_booster"], str(learner["objective"]["name"])
    if booster["name"] != "gbtree":
        raise unsupported(model, f"booster {booster['name']!r}", "use booster='gbtree'")
    check_numbers(columns, type(model).__name__)
    kinds = max(int(learner["learner_model_param"]["num_class"]), 1)
    start = _base_margins(model, learner["learner_model_param"]["base_score"], objective, kinds)
    trees, targets = _grown(model, booster["model"], learner["attributes"])

    def score(scale: float) -> str:
        if not trees:
            return graph.node("Cast", constant_rows(graph, scale * start), to=FLOAT)
        return ensemble(graph, columns, trees, targets, strict=True, base=start, scale=scale)

    return _linked(graph, model, objective, score)


def _linked(graph: Graph, model: Any, objective: str, score: Callable[[float], str]) -> Answer:
    if objective in _SIGMOID:
        grown = graph.node("Add", _exp(graph, score(-1.0)), graph.constant(np.array(1.0, dtype=np.float32)))
        values = graph.node("Reciprocal", grown)
    elif objective in _SOFTMAX:
        axis, margin = graph.constant(np.array([1])), score(1.0)
        shifted = graph.node("Sub", margin, graph.node("ReduceMax", margin, axis, width=1))
        shares = _exp(graph, shifted)
        total = graph.node("ReduceSum", graph.node("Cast", shares, to=DOUBLE), axis, width=1)
        values = graph.node("Div", shares, graph.node("Cast", total, to=FLOAT))
    elif objective in _EXP:
        values = _exp(graph, score(1.0))
    else:
        values = score(1.0)
    classes = getattr(model, "classes_", None)
    return Answer(graph.node("Cast", values, to=DOUBLE), classes=None if classes is None else np.asarray(classes))


def _exp(graph: Graph, x: str) -> str:
    """The single-precision exponential: taken in doubles and rounded once."""
    return graph.node("Cast", graph.node("Exp", graph.node("Cast", x, to=DOUBLE)), to=FLOAT)


def _base_margins(model: Any, text: str, objective: str, kinds: int) -> np.ndarray:
    """The base score as margins [kinds]; saved in the space of the answers, "[1E0,2E0]" or "1E0"."""
    score = np.array([float(word) for word in text.strip("[]").split(",")], dtype=np.float32)
    if objective in _SIGMOID:
        score = -np.log(np.float32(1.0) / score - np.float32(1.0))
    elif objective in _EXP:
        score = np.log(score)
    elif objective not in _IDENTITY | _SOFTMAX:
        cure = "use binary:logistic, multi:softprob, reg:squarederror or another listed objective"
        raise unsupported(model, f"objective {objective!r}", cure)
    return np.broadcast_to(score.astype(np.float32), (kinds,))


def _grown(model: Any, forest: Json, attributes: Json) -> tuple[list[Tree], list[int]]:
    """The trees used for prediction (up to the best iteration where training stopped early) and their targets."""
    trees, targets = forest["trees"], [int(target) for target in forest["tree_info"]]
    if "best_iteration" in attributes:
        per_round = len(trees) // (len(forest["iteration_indptr"]) - 1)
        kept = (int(attributes["best_iteration"]) + 1) * per_round
        trees, targets = trees[:kept], targets[:kept]
    return [_tree(model, tree) for tree in trees], targets


def _tree(model: Any, tree: Json) -> Tree:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise unsupported(model, "multi-output trees", "use multi_strategy='one_output_per_tree'")
    if any(tree["split_type"]):
        raise unsupported(model, "native categorical splits", "encode text columns before the model")
    conditions = np.array(tree["split_conditions"], dtype=np.float32)
    left = np.array(tree["left_children"], dtype=np.int64)
    return Tree(
        feature=np.array(tree["split_indices"], dtype=np.int64),
        threshold=conditions,
        left=left,
        right=np.array(tree["right_children"], dtype=np.int64),
        leaf=left == -1,
        missing_left=np.array(tree["default_left"], dtype=bool),
        value=conditions,  # XGBoost keeps a leaf's value where a node keeps its threshold
    )
