"""Linear models: coefficients, intercept and a link; and the constant models that are linear without coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, constant_rows, distribution, normalise, sigmoid, unsupported
from ecluse.training.compile.column import Columns
from ecluse.training.compile.columns import check_numbers, matrix
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.tables import weighted_tables


def logistic(graph: Graph, model: Any, columns: Columns) -> Answer:
    """LogisticRegression and LogisticRegressionCV: sigmoid, or softmax over more than two classes."""
    return distribution(graph, lambda scale: margin(graph, model, columns, scale), model.classes_)


def sgd_classifier(graph: Graph, model: Any, columns: Columns) -> Answer:
    """SGDClassifier: probabilities with ``loss="log_loss"`` (one-vs-rest, normalised), else a margin only."""
    if model.loss != "log_loss":
        return Answer("", margin(graph, model, columns), model.classes_)
    minus = margin(graph, model, columns, -1.0)
    p = sigmoid(graph, minus)
    return Answer(p if len(model.classes_) == 2 else normalise(graph, p), graph.node("Neg", minus), model.classes_)


def separator(graph: Graph, model: Any, columns: Columns) -> Answer:
    """LinearSVC and RidgeClassifier: a margin without probabilities, of use inside CalibratedClassifierCV."""
    return Answer("", margin(graph, model, columns), model.classes_)


def regression(graph: Graph, model: Any, columns: Columns) -> Answer:
    """LinearRegression, Ridge, Lasso, ElasticNet and their like."""
    return Answer(margin(graph, model, columns))


def log_regression(graph: Graph, model: Any, columns: Columns) -> Answer:
    """PoissonRegressor and GammaRegressor: the exponential of a linear model."""
    return Answer(graph.node("Exp", margin(graph, model, columns)))


def margin(graph: Graph, model: Any, columns: Columns, scale: float = 1.0) -> str:
    """``scale`` (1 or -1) times (X · coefᵀ + intercept), double [n, K]. O(F · K) a row.

    Columns that are tables (words) are looked up in ``x``; only the others are multiplied.
    """
    check_numbers(columns, type(model).__name__)
    weights = scale * np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)).T
    kinds = weights.shape[1]
    if not hasattr(model, "classes_") and kinds != 1:
        raise unsupported(model, f"{kinds} targets", "fit one model per target")
    intercept = scale * np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64).ravel(), (kinds,))
    tabled = np.array([column.source is not None and column.source.cuts is not None for column in columns])
    parts = []
    if not tabled.all():
        x = matrix(graph, tuple(column for column, table in zip(columns, tabled, strict=True) if not table))
        parts.append(graph.node("MatMul", x, graph.constant(weights[~tabled]), width=kinds))
    if tabled.any():
        tables = tuple(column for column, table in zip(columns, tabled, strict=True) if table)
        parts.append(weighted_tables(graph, tables, weights[tabled], intercept))
    else:
        parts.append(graph.constant(intercept))
    return graph.node("Add", *parts) if len(parts) == 2 else parts[0]


def dummy_classifier(graph: Graph, model: Any, columns: Columns) -> Answer:
    """DummyClassifier: the same probabilities for every row."""
    if model.strategy == "stratified":
        raise unsupported(model, "strategy='stratified' draws at random", "use strategy='prior'")
    row = model.predict_proba(np.zeros((1, max(len(columns), 1))))[0]
    return Answer(constant_rows(graph, row[1:] if len(row) == 2 else row), classes=model.classes_)


def dummy_regressor(graph: Graph, model: Any, columns: Columns) -> Answer:
    """DummyRegressor: the same number for every row."""
    return Answer(constant_rows(graph, np.ravel(model.constant_)[:1]))
