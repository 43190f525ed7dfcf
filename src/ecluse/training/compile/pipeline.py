"""Compiling a fitted estimator: walks pipelines and column transformers down to the model, and writes one ONNX model.

Input ``x``: the encoded matrix, double [n, F]. Output ``y``: double [n, K], the probability of ``classes_[1]`` (binary), of
every class in the order of ``classes_`` (multiclass), or the predicted number (regression). A row for which scikit-learn
would raise an error (a category an encoder refuses) answers NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ecluse.core.errors import InvalidInput, Unsupported
from ecluse.core.schema import Feature
from ecluse.training.compile import combined, encoders, forests, histogram, linear, scalers
from ecluse.training.compile.answer import Answer, unsupported
from ecluse.training.compile.column import Column, Columns, Source
from ecluse.training.compile.columns import matrix, spread
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.lightgbm import lightgbm
from ecluse.training.compile.xgboost import xgboost

_LIBRARIES = ("sklearn", "lightgbm", "xgboost")
_WHERE = "training/compile"

_Step = Callable[[Graph, Any, Columns], Columns]
_Model = Callable[[Graph, Any, Columns], Answer]

_STEPS: dict[str, _Step] = {
    "OneHotEncoder": encoders.one_hot,
    "OrdinalEncoder": encoders.table_encoder,
    "TargetEncoder": encoders.table_encoder,
    "StandardScaler": scalers.scale,
    "RobustScaler": scalers.scale,
    "MaxAbsScaler": scalers.scale,
    "MinMaxScaler": scalers.scale_range,
    "SimpleImputer": scalers.impute,
    "PolynomialFeatures": scalers.polynomial,
}

_MODELS: dict[str, _Model] = {
    **dict.fromkeys(("LogisticRegression", "LogisticRegressionCV"), linear.logistic),
    "SGDClassifier": linear.sgd_classifier,
    **dict.fromkeys(("LinearSVC", "RidgeClassifier", "RidgeClassifierCV"), linear.separator),
    **dict.fromkeys(
        ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "BayesianRidge",
         "HuberRegressor", "QuantileRegressor", "SGDRegressor", "LinearSVR"),
        linear.regression,
    ),
    **dict.fromkeys(("PoissonRegressor", "GammaRegressor"), linear.log_regression),
    "DummyClassifier": linear.dummy_classifier,
    "DummyRegressor": linear.dummy_regressor,
    **{
        f"{name}{kind}": forests.forest
        for name in ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
        for kind in ("Classifier", "Regressor")
    },
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), forests.gradient_boosting),
    **dict.fromkeys(("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), histogram.histogram_boosting),
    **dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), lightgbm),
    **dict.fromkeys(("XGBClassifier", "XGBRegressor"), xgboost),
}  # fmt: skip


def compile_model(estimator: Any, features: Sequence[Feature], task: str) -> bytes:
    """The ONNX model of a fitted scikit-learn estimator or Pipeline; the same fitted model gives the same bytes.

    ``task`` is "binary", "multiclass" or "regression". Raises Unsupported naming what cannot be compiled, InvalidInput when
    the estimator does not fit the task or the features.
    """
    wanted = getattr(estimator, "n_features_in_", len(features))
    if wanted != len(features):
        raise InvalidInput(
            f"the estimator reads {wanted} features, the schema has {len(features)}", where=_WHERE, cure="train again"
        )
    names = [feature.name for feature in features]
    if list(getattr(estimator, "feature_names_in_", names)) != names:
        cure = "train and package with one schema"
        raise InvalidInput("the estimator was fitted on other columns, or in another order", where=_WHERE, cure=cure)
    graph = Graph(len(features))
    answer = predictor(graph, estimator, _columns(features))
    _check_task(estimator, answer, task)
    return graph.finish(answer.values)


def _columns(features: Sequence[Feature]) -> Columns:
    """The columns of ``x``."""
    columns: list[Column] = []
    for i, feature in enumerate(features):
        words = tuple(feature.categories or ()) if feature.kind == "category" else None
        source = Source(i) if words is None else Source.words(i, len(words))
        columns.append(Column("x", i, feature.name, words, source))
    return tuple(columns)


def single_precision(estimator: Any) -> bool:
    """True where the library itself computes in single precision (XGBoost): compare with 1e-6 instead of 1e-9."""
    parts = [estimator, *(step for _, step in getattr(estimator, "steps", ()))]
    parts += getattr(estimator, "estimators_", []) if type(estimator).__name__.startswith("Voting") else []
    parts += [fold.estimator for fold in getattr(estimator, "calibrated_classifiers_", ())]
    if any(_library(part) == "xgboost" for part in parts):
        return True
    return any(single_precision(part) for part in parts[1:])


def predictor(graph: Graph, estimator: Any, columns: Columns) -> Answer:
    """Compile an estimator that ends in a model."""
    name = _known(estimator)
    if name == "Pipeline":
        *steps, (_, last) = estimator.steps
        for _, step in steps:
            columns = transform(graph, step, columns)
        return predictor(graph, last, columns)
    if name == "FrozenEstimator":
        return predictor(graph, estimator.estimator, columns)
    if name == "CalibratedClassifierCV":
        return combined.calibrated(graph, estimator, columns, predictor)
    if name in ("VotingClassifier", "VotingRegressor"):
        return combined.voting(graph, estimator, columns, predictor)
    if name not in _MODELS:
        raise unsupported(
            estimator, "no compiled form", f"use one of {', '.join(sorted(_MODELS))}, or export ONNX yourself"
        )
    return _MODELS[name](graph, estimator, columns)


def transform(graph: Graph, step: Any, columns: Columns) -> Columns:
    """Compile a step that turns columns into columns."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return columns
    name = _known(step)
    if name == "Pipeline":
        for _, inner in step.steps:
            columns = transform(graph, inner, columns)
        return columns
    if name == "ColumnTransformer":
        return _column_transformer(graph, step, columns)
    if name == "FeatureUnion":
        return _union(graph, step, columns)
    if name == "FunctionTransformer":
        if step.func is not None:
            raise unsupported(step, "a function of the user's own", "declare it as a derived feature")
        return columns
    if name not in _STEPS:
        raise unsupported(step, "no compiled form", f"use one of {', '.join(sorted(_STEPS))}, or export ONNX yourself")
    return _STEPS[name](graph, step, columns)


def _column_transformer(graph: Graph, step: Any, columns: Columns) -> Columns:
    out: Columns = ()
    names = list(getattr(step, "feature_names_in_", [column.name for column in columns]))
    for label, inner, chosen in step.transformers_:
        picked = tuple(columns[i] for i in _positions(chosen, names))
        if (isinstance(inner, str) and inner == "drop") or not picked:
            continue
        made = transform(graph, inner, picked)
        out += _weighted(graph, made, (step.transformer_weights or {}).get(label))
    return out


def _union(graph: Graph, step: Any, columns: Columns) -> Columns:
    out: Columns = ()
    for label, inner in step.transformer_list:
        if not (isinstance(inner, str) and inner == "drop"):
            out += _weighted(graph, transform(graph, inner, columns), (step.transformer_weights or {}).get(label))
    return out


def _weighted(graph: Graph, columns: Columns, weight: float | None) -> Columns:
    if weight is None or not columns:
        return columns
    # one weight per column: onnxruntime would fuse a lone scalar into the next MatMul in single precision
    heavy = graph.node("Mul", matrix(graph, columns), graph.constant(np.full(len(columns), float(weight))))
    return spread(heavy, columns)


def _positions(chosen: Any, names: list[str]) -> list[int]:
    """Column positions of what a fitted ColumnTransformer keeps: names, positions, slices or a mask."""
    if isinstance(chosen, slice):
        start, stop = (names.index(end) if isinstance(end, str) else end for end in (chosen.start, chosen.stop))
        if isinstance(chosen.stop, str):
            stop += 1  # slices of names include their end
        return list(range(len(names)))[slice(start, stop, chosen.step)]
    items = np.atleast_1d(np.asarray(chosen, dtype=object)).tolist()
    if items and all(isinstance(item, bool | np.bool_) for item in items):
        return [i for i, item in enumerate(items) if item]
    return [names.index(item) if isinstance(item, str) else int(item) % len(names) for item in items]


def _check_task(estimator: Any, answer: Answer, task: str) -> None:
    kinds = None if answer.classes is None else len(answer.classes)
    fits = {"binary": kinds == 2, "multiclass": kinds is not None and kinds >= 2, "regression": kinds is None}
    if task not in fits:
        raise InvalidInput(f"unknown task {task!r}", where=_WHERE, cure="use binary, multiclass or regression")
    if not fits[task]:
        said = "a number" if kinds is None else f"{kinds} classes"
        cure = "check the label and the estimator"
        raise InvalidInput(f"{type(estimator).__name__} answers {said}, the task is {task}", where=_WHERE, cure=cure)
    if not answer.values:
        raise unsupported(estimator, "it has no probabilities", "wrap it in CalibratedClassifierCV")


def _library(estimator: Any) -> str:
    return type(estimator).__module__.partition(".")[0]


def _known(estimator: Any) -> str:
    """The class's name, when it is one of the libraries' own (a subclass may answer differently)."""
    kind = type(estimator)
    if _library(estimator) not in _LIBRARIES:
        cure = "express it with scikit-learn's classes, or export ONNX yourself"
        raise Unsupported(
            f"{kind.__module__}.{kind.__qualname__} is a class of the user's own", where=_WHERE, cure=cure
        )
    return kind.__name__
