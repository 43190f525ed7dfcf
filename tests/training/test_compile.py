"""Models and combinations of models, compiled, against scikit-learn's own answers; what is refused; equal bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn import dummy, ensemble, linear_model, svm, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OrdinalEncoder,
)
from tests.training.compiled import EXACT, FEATURES, awkward, fitted, gap, name_of, table
from xgboost import XGBClassifier

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.errors import InvalidInput, Unsupported
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encoders import encoder, scaled_encoder

LINEAR_CLASSIFIERS = [
    linear_model.LogisticRegression(max_iter=300),
    linear_model.LogisticRegressionCV(
        Cs=3, cv=2, max_iter=300, use_legacy_attributes=False, l1_ratios=(0.0,), scoring="neg_log_loss"
    ),
    linear_model.SGDClassifier(loss="log_loss", random_state=0),
    CalibratedClassifierCV(svm.LinearSVC(random_state=0), cv=2),
    CalibratedClassifierCV(linear_model.RidgeClassifier(), cv=2, method="isotonic"),
    dummy.DummyClassifier(),
    dummy.DummyClassifier(strategy="uniform"),
]
LINEAR_REGRESSORS = [
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    linear_model.RidgeCV(),
    linear_model.Lasso(alpha=0.01),
    linear_model.ElasticNet(alpha=0.01, fit_intercept=False),
    linear_model.BayesianRidge(),
    linear_model.HuberRegressor(max_iter=500),
    linear_model.SGDRegressor(random_state=0),
    linear_model.PoissonRegressor(),
    linear_model.GammaRegressor(),
    dummy.DummyRegressor(strategy="median"),
]
FORESTS = ["DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees"]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("model", LINEAR_CLASSIFIERS, ids=name_of)
def test_linear_classifiers(model: Any, task: str) -> None:
    assert gap(fitted(make_pipeline(scaled_encoder(), model), task), task, awkward(table(500, 2))) <= EXACT


@pytest.mark.parametrize("model", LINEAR_REGRESSORS, ids=name_of)
def test_linear_regressors(model: Any) -> None:
    pipeline = fitted(make_pipeline(scaled_encoder(), model), "regression")
    assert gap(pipeline, "regression", awkward(table(500, 2))) <= EXACT


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", FORESTS)
def test_forests_with_missing_values_and_single_precision_ties(name: str, task: str) -> None:
    kind = "Regressor" if task == "regression" else "Classifier"
    library = ensemble if name in ("RandomForest", "ExtraTrees") else tree
    size = {"n_estimators": 12} if library is ensemble else {}
    model = getattr(library, name + kind)(random_state=0, max_depth=7, **size)
    assert gap(fitted(make_pipeline(encoder(), model), task), task, awkward(table(500, 2))) <= EXACT


def test_single_precision_inputs_are_reproduced() -> None:
    """Values one double apart from a threshold: scikit-learn rounds them to single precision first."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(400, 2)), 1)
    model = tree.DecisionTreeClassifier(random_state=0).fit(x, (x[:, 0] + x[:, 1] > 0).astype(int))
    edges = model.tree_.threshold[model.tree_.feature == 0]
    near = np.concatenate(
        [edges, np.nextafter(edges, 9), np.nextafter(edges, -9), edges.astype(np.float32), edges + 1e-9]
    )
    rows = np.stack([near, np.zeros_like(near)], axis=1)
    scored = OnnxScorer(compile_model(model, FEATURES[:2], "binary")).score(rows)
    assert np.array_equal(scored[:, 0], model.predict_proba(rows)[:, 1])


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_gradient_boosting(task: str) -> None:
    kind = ensemble.GradientBoostingRegressor if task == "regression" else ensemble.GradientBoostingClassifier
    pipeline = fitted(make_pipeline(scaled_encoder(), kind(n_estimators=15, random_state=0)), task)
    assert gap(pipeline, task, awkward(table(500, 2))) <= EXACT
    zero = fitted(make_pipeline(scaled_encoder(), kind(n_estimators=3, init="zero", random_state=0)), task)
    assert gap(zero, task, table(100, 2)) <= EXACT


def test_gradient_boosting_exponential_loss_and_missing_rows_refused() -> None:
    model = ensemble.GradientBoostingClassifier(n_estimators=9, loss="exponential", random_state=0)
    pipeline = fitted(make_pipeline(encoder(), model), "binary", missing=0.0)
    assert gap(pipeline, "binary", table(300, 2, missing=0.0)) <= EXACT
    scored = OnnxScorer(compile_model(pipeline, FEATURES, "binary")).score(
        np.array([[np.nan, 1, 1, 0, 0], [20.0, 1, 1, 0, 0]])
    )
    assert np.isnan(scored[:, 0]).tolist() == [True, False]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_histogram_boosting(task: str) -> None:
    kind = ensemble.HistGradientBoostingRegressor if task == "regression" else ensemble.HistGradientBoostingClassifier
    for model in (
        make_pipeline(encoder(), kind(max_iter=20)),
        kind(max_iter=20, categorical_features=["plan", "region"]),
    ):
        assert gap(fitted(model, task), task, awkward(table(500, 2))) <= EXACT


def test_histogram_boosting_over_encoded_categories_and_log_links() -> None:
    kind = ensemble.HistGradientBoostingRegressor
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    words = ColumnTransformer([("w", ordinal, ["plan", "region"])], remainder="passthrough")
    for loss in ("poisson", "gamma", "absolute_error"):
        model = make_pipeline(words, kind(max_iter=15, loss=loss, categorical_features=[0, 1]))
        assert gap(fitted(model, "regression"), "regression", awkward(table(300, 2))) <= EXACT


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(method: str, task: str) -> None:
    for inner in (
        ensemble.RandomForestClassifier(10, max_depth=4, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=5),
    ):
        model = make_pipeline(encoder(), CalibratedClassifierCV(inner, method=method, cv=3))
        assert gap(fitted(model, task), task, awkward(table(500, 2))) <= EXACT


def test_calibration_of_a_whole_frozen_pipeline() -> None:
    inner = fitted(make_pipeline(scaled_encoder(), linear_model.LogisticRegression()), "binary")
    model = fitted(CalibratedClassifierCV(FrozenEstimator(inner), cv=2), "binary")
    assert gap(model, "binary", awkward(table(300, 2))) <= EXACT


def test_voting() -> None:
    members = [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3)), ("c", "drop")]
    model = make_pipeline(scaled_encoder(), ensemble.VotingClassifier(members, voting="soft", weights=[2, 1, 5]))
    assert gap(fitted(model, "multiclass"), "multiclass", table(300, 2)) <= EXACT


class Own(linear_model.LogisticRegression):  # type: ignore[misc]  # scikit-learn is untyped
    """A subclass may answer anything."""


@pytest.mark.parametrize(("model", "says"), [
    (make_pipeline(scaled_encoder(), Own()), "Own"),
    (make_pipeline(scaled_encoder(), svm.SVC()), "SVC"),
    (make_pipeline(scaled_encoder(), svm.LinearSVC()), "no probabilities"),
    (make_pipeline(scaled_encoder(), FunctionTransformer(np.abs), linear_model.LogisticRegression()), "FunctionTransformer"),
    (make_pipeline(scaled_encoder(), dummy.DummyClassifier(strategy="stratified")), "stratified"),
    (make_pipeline(encoder(), LGBMClassifier(n_estimators=2, zero_as_missing=True, verbose=-1)), "zero_as_missing"),
    (make_pipeline(scaled_encoder(), XGBClassifier(n_estimators=2, booster="gblinear")), "gblinear"),
], ids=["own", "svc", "linear_svc", "function", "dummy", "lightgbm", "xgboost"])  # fmt: skip
def test_what_cannot_be_compiled_is_refused_by_name(model: Any, says: str) -> None:
    with pytest.raises(Unsupported, match=says) as caught:
        compile_model(fitted(model, "binary"), FEATURES, "binary")
    assert caught.value.cure


def test_category_outside_the_schema_is_refused() -> None:
    model = fitted(make_pipeline(encoder(), tree.DecisionTreeClassifier()), "binary")
    narrow = (*FEATURES[:3], Feature("plan", "category", ("Basic",)), FEATURES[4])
    with pytest.raises(Unsupported, match="Gold"):
        compile_model(model, narrow, "binary")


def test_task_and_width_must_fit() -> None:
    model = fitted(make_pipeline(encoder(), tree.DecisionTreeClassifier()), "multiclass")
    for features, task in (
        (FEATURES, "binary"),
        (FEATURES, "regression"),
        (FEATURES, "ranking"),
        (FEATURES[:2], "multiclass"),
        (FEATURES[::-1], "multiclass"),
    ):
        with pytest.raises(InvalidInput):
            compile_model(model, features, task)


FRESH = """
import hashlib
import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model
rng = np.random.default_rng(0)
frame = pl.DataFrame({"n": rng.normal(size=300), "c": rng.choice(["a", "b", "c"], 300), "d": rng.choice(["x", "y"], 300)})
model = HistGradientBoostingClassifier(max_iter=5, categorical_features=["c", "d"]).fit(frame, (frame["c"] == "b").to_numpy())
features = (Feature("n", "number"), Feature("c", "category", ("a", "b", "c")), Feature("d", "category", ("x", "y")))
digest = hashlib.sha256(compile_model(model, features, "binary")).hexdigest()
print(digest)
"""


def test_a_fresh_process_writes_the_same_bytes() -> None:
    here: dict[str, Any] = {}
    exec(FRESH, here)
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", FRESH], env=env, capture_output=True, check=True, text=True).stdout
    assert there.strip() == here["digest"]


def test_equal_training_gives_equal_bytes() -> None:
    def made() -> bytes:
        model = make_pipeline(encoder(), ensemble.RandomForestClassifier(5, random_state=3))
        return compile_model(fitted(model, "multiclass"), FEATURES, "multiclass")

    assert made() == made()
