"""Combined estimators: calibration and soft voting over other estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, Walk, normalise, sigmoid, unsupported
from ecluse.training.compile.column import Columns
from ecluse.training.compile.columns import truth
from ecluse.training.compile.graph import INT64, Graph
from ecluse.training.compile.scalers import clip


def calibrated(graph: Graph, model: Any, columns: Columns, walk: Walk) -> Answer:
    """CalibratedClassifierCV: the mean over folds of calibrated margins (or probabilities), sigmoid or isotonic."""
    answers = [
        _fold(graph, model, fold, walk(graph, fold.estimator, columns)) for fold in model.calibrated_classifiers_
    ]
    return Answer(_mean(graph, answers, np.ones(len(answers))), classes=model.classes_)


def voting(graph: Graph, model: Any, columns: Columns, walk: Walk) -> Answer:
    """VotingClassifier(voting="soft") and VotingRegressor: the weighted mean of the answers."""
    if getattr(model, "voting", "soft") != "soft":
        raise unsupported(model, "voting='hard'", "use voting='soft', which gives probabilities")
    members = [member for member in model.estimators if not isinstance(member[1], str)]
    weights = np.ones(len(members)) if model.weights is None else np.asarray(model._weights_not_none, dtype=np.float64)
    answers = [_values(member, walk(graph, member, columns)) for member in model.estimators_]
    return Answer(_mean(graph, answers, weights), classes=getattr(model, "classes_", None))


def _fold(graph: Graph, model: Any, fold: Any, inner: Answer) -> str:
    score = inner.margin or _values(fold.estimator, inner)
    if inner.classes is None or len(inner.classes) != len(model.classes_):
        raise unsupported(model, "a fold without every class", "use fewer folds or more rows")
    parts = []
    for k, calibrator in enumerate(fold.calibrators):
        one = score
        if graph.widths[score] > 1:
            one = graph.node("Gather", score, graph.constant(np.array([k])), axis=1, width=1)
        parts.append(_calibrated(graph, model, calibrator, one))
    return parts[0] if len(parts) == 1 else normalise(graph, graph.node("Concat", *parts, axis=1, width=len(parts)))


def _calibrated(graph: Graph, model: Any, calibrator: Any, score: str) -> str:
    name = type(calibrator).__name__
    if name == "_SigmoidCalibration":
        slope, shift = (graph.constant(np.array(float(number))) for number in (calibrator.a_, calibrator.b_))
        return sigmoid(graph, graph.node("Add", graph.node("Mul", score, slope), shift))  # expit(-(a t + b))
    if name == "IsotonicRegression":
        return _isotonic(graph, calibrator, score)
    raise unsupported(model, f"method={model.method!r}", "use method='sigmoid' or 'isotonic'")


def _isotonic(graph: Graph, fit: Any, score: str) -> str:
    """Linear interpolation between the fitted points; O(points) a row."""
    x, y = np.asarray(fit.X_thresholds_, dtype=np.float64), np.asarray(fit.y_thresholds_, dtype=np.float64)
    if len(x) == 1:
        x, y = np.append(x, x + 1.0), np.append(y, y)
    t = clip(graph, score, float(fit.X_min_), float(fit.X_max_))
    slope = (y[1:] - y[:-1]) / (x[1:] - x[:-1])
    points = graph.constant(np.stack([x[:-1], y[:-1], slope], axis=1))
    if len(x) > 2:  # segment i holds x[i] < t <= x[i+1]; the first also holds x[0]
        above = truth(graph, graph.node("Greater", t, graph.constant(x[1:-1]), width=len(x) - 2))
        segment = graph.node("ReduceSum", above, graph.constant(np.array([1])), keepdims=0)
        points = graph.node("Gather", points, graph.node("Cast", segment, to=INT64), axis=0, width=3)
    low, base, rise = (graph.node("Gather", points, graph.constant(np.array([i])), axis=1, width=1) for i in range(3))
    return graph.node("Add", graph.node("Mul", rise, graph.node("Sub", t, low)), base)


def _values(estimator: Any, answer: Answer) -> str:
    if not answer.values:
        raise unsupported(estimator, "it has no probabilities", "wrap it in CalibratedClassifierCV")
    return answer.values


def _mean(graph: Graph, answers: list[str], weights: np.ndarray) -> str:
    total = ""
    for answer, weight in zip(answers, weights, strict=True):
        part = answer if weight == 1.0 else graph.node("Mul", answer, graph.constant(np.array(float(weight))))
        total = graph.node("Add", total, part) if total else part
    return graph.node("Div", total, graph.constant(np.array(float(weights.sum()))))
