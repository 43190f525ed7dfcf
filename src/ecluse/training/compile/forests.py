"""Forests of scikit-learn: decision trees, random forests, extremely randomised trees, GradientBoosting.

scikit-learn reads their inputs as single precision and compares with double thresholds; so does the compiled model. A number
beyond single precision (3.4e38), where scikit-learn raises an error, goes the way of infinity: contracts keep it out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, distribution, sigmoid, unsupported
from ecluse.training.compile.column import Columns
from ecluse.training.compile.columns import check_numbers, matrix, spread, truth
from ecluse.training.compile.graph import DOUBLE, FLOAT, Graph
from ecluse.training.compile.tree import Tree
from ecluse.training.compile.trees import ensemble, leaf_rows


def forest(graph: Graph, model: Any, columns: Columns) -> Answer:
    """A decision tree or the mean over a forest's trees: class shares or a number."""
    members = getattr(model, "estimators_", [model])
    if model.n_outputs_ != 1:
        raise unsupported(model, f"{model.n_outputs_} outputs", "fit one model per output")
    columns = _single(graph, columns, model)
    classes = getattr(model, "classes_", None)
    count = len(members)
    if classes is None or len(classes) == 2:
        column = 0 if classes is None else 1
        total = ensemble(graph, columns, [_tree(member.tree_, column) for member in members], [0] * count)
    else:
        total = leaf_rows(graph, columns, [_tree(member.tree_) for member in members])
    mean = total if count == 1 else graph.node("Div", total, graph.constant(np.array(float(count))))
    return Answer(mean, classes=classes)


def gradient_boosting(graph: Graph, model: Any, columns: Columns) -> Answer:
    """GradientBoostingClassifier and -Regressor with a constant start. A missing number is refused, as scikit-learn does."""
    if not isinstance(model.init_, str) and type(model.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        raise unsupported(model, "init is an estimator", "leave init=None or use init='zero'")
    columns = _single(graph, columns, model)
    graph.refuse(spread(truth(graph, graph.node("IsNaN", matrix(graph, columns))), columns))
    start = model._raw_predict_init(np.zeros((1, len(columns)), dtype=np.float32))[0]
    members = [(k, member) for stage in model.estimators_ for k, member in enumerate(stage)]
    trees = [replace(tree, value=tree.value * model.learning_rate) for tree in (_tree(m.tree_, 0) for _, m in members)]

    def score(scale: float) -> str:
        return ensemble(graph, columns, trees, [k for k, _ in members], base=start, scale=scale)

    if not hasattr(model, "classes_"):
        return Answer(score(1.0))
    if model.loss == "exponential":
        minus = score(-2.0)
        margin = graph.node("Mul", minus, graph.constant(np.array(-0.5)))
        return Answer(sigmoid(graph, minus), margin, model.classes_)
    return distribution(graph, score, model.classes_)


def _single(graph: Graph, columns: Columns, model: Any) -> Columns:
    """The columns rounded to single precision."""
    check_numbers(columns, type(model).__name__)
    x = matrix(graph, columns)
    return spread(graph.node("Cast", graph.node("Cast", x, to=FLOAT), to=DOUBLE), columns)


def _tree(tree: Any, column: int | None = None) -> Tree:
    values = tree.value[:, 0, :] if column is None else tree.value[:, 0, column]
    return Tree(
        feature=tree.feature.astype(np.int64),
        threshold=tree.threshold,
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        leaf=tree.children_left == -1,
        missing_left=tree.missing_go_to_left.astype(bool),
        value=np.asarray(values, dtype=np.float64),
    )
