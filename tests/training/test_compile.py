"""Every supported estimator, compiled, against scikit-learn's own answers."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import dummy, ensemble, linear_model, svm, tree
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from xgboost import XGBClassifier, XGBRegressor

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.errors import InvalidInput, Unsupported
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model, single_precision
from ecluse.training.encode import encode, model_frame
from ecluse.training.encoders import encoder, scaled_encoder

EXACT = 1e-12
WORDS = ("Basic", "Gold", "Silver", "Trial")
FEATURES = (
    Feature("age", "number"),
    Feature("spend", "number"),
    Feature("active", "boolean"),
    Feature("plan", "category", WORDS),
    Feature("region", "category", ("east", "north", "west")),
)


def table(rows: int, seed: int, missing: float = 0.1) -> pl.DataFrame:
    """Rows with ties (whole ages, spend on a grid of tenths), missing values and both text columns."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({
        "age": rng.integers(18, 60, rows).astype(float),
        "spend": np.round(rng.gamma(2.0, 3.0, rows), 1),
        "active": rng.random(rows) < 0.6,
        "plan": rng.choice(WORDS, rows, p=[0.4, 0.3, 0.28, 0.02]),
        "region": rng.choice(["east", "north", "west"], rows),
    })  # fmt: skip
    return frame.with_columns(
        pl.when(pl.Series(rng.random(rows) < missing)).then(None).otherwise(pl.col(name)).alias(name)
        for name in frame.columns
    )


def target(frame: pl.DataFrame, task: str, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = (
        0.08 * (frame["age"].fill_null(35) - 35)
        - 0.2 * (frame["spend"].fill_null(6) - 6)
        + 1.2 * (frame["plan"].fill_null("x") == "Gold").cast(pl.Float64)
        + pl.Series(rng.normal(size=frame.height))
    ).to_numpy()
    if task == "regression":
        return np.exp(z / 4)
    return np.digitize(z, [-0.5, 0.7]) if task == "multiclass" else (z > 0).astype(int)


def answers(model: Any, frame: pl.DataFrame | np.ndarray, task: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if task == "regression":
            return np.asarray(model.predict(frame), dtype=np.float64).reshape(-1, 1)
        proba = np.asarray(model.predict_proba(frame), dtype=np.float64)
    return proba[:, 1:] if task == "binary" else proba


def awkward(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows and the same rows with words never seen."""
    return pl.concat([frame, frame.head(50).with_columns(plan=pl.lit("Platinum"), region=pl.lit("moon"))])


def gap(
    model: Any, task: str, frame: pl.DataFrame, features: tuple[Feature, ...] = FEATURES, as_array: bool = False
) -> float:
    """Largest absolute difference between the estimator and its compiled form; also checks equal bytes."""
    compiled = compile_model(model, features, task)
    assert compiled == compile_model(model, features, task)
    seen = model_frame(frame, features)
    told = answers(model, seen.to_numpy() if as_array else seen, task)
    scored = OnnxScorer(compiled).score(encode(frame, features))
    assert scored.shape == told.shape
    assert not np.isnan(told).any()
    return float(np.abs(told - scored).max())


def fitted(model: Any, task: str, missing: float = 0.1, rows: int = 600) -> Any:
    train = table(rows, 1, missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(model_frame(train, FEATURES), target(train, task))


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


def name_of(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseEstimator) else str(value)


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


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("boosting", ["gbdt", "rf", "dart"])
def test_lightgbm(task: str, boosting: str) -> None:
    kind = LGBMRegressor if task == "regression" else LGBMClassifier
    extra: dict[str, Any] = {"subsample": 0.7, "subsample_freq": 1} if boosting == "rf" else {}
    model = kind(n_estimators=12, num_leaves=9, min_child_samples=5, boosting_type=boosting, verbose=-1, **extra)
    assert gap(fitted(make_pipeline(encoder(), model), task), task, awkward(table(500, 2))) <= EXACT


def test_lightgbm_sets_of_categories_and_no_missing_in_training() -> None:
    rng = np.random.default_rng(0)
    features = tuple(Feature(name, "number") for name in "abc")
    x = np.stack([rng.integers(0, 12, 800).astype(float), rng.normal(size=800), rng.normal(size=800)], axis=1)
    y = np.isin(x[:, 0], [1, 4, 5, 9]) ^ (x[:, 1] > 0.3)
    model = LGBMClassifier(n_estimators=15, num_leaves=9, min_data_per_group=5, verbose=-1)
    model.fit(x, y.astype(int), categorical_feature=[0])
    rows = np.concatenate(
        [x, [[40.0, 0, 0], [-1, 0, 0], [2.7, 0, 0]], x[:50] * [1, np.nan, 1], x[:50] * [np.nan, 1, np.nan]]
    )
    assert gap(model, "binary", pl.DataFrame(rows, schema=list("abc")), features, as_array=True) <= EXACT


@pytest.mark.parametrize("objective", ["poisson", "quantile", "tweedie"])
def test_lightgbm_links(objective: str) -> None:
    pipeline = make_pipeline(encoder(), LGBMRegressor(n_estimators=8, objective=objective, verbose=-1))
    assert gap(fitted(pipeline, "regression"), "regression", table(300, 2)) <= EXACT


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_xgboost_within_its_last_bit(task: str) -> None:
    kind = XGBRegressor if task == "regression" else XGBClassifier
    for options in ({}, {"num_parallel_tree": 2}):
        pipeline = fitted(make_pipeline(encoder(), kind(n_estimators=25, max_depth=4, **options)), task)
        assert single_precision(pipeline)
        assert gap(pipeline, task, awkward(table(500, 2))) <= (0.0 if task == "regression" else 1.2e-7)


@pytest.mark.parametrize("objective", ["count:poisson", "reg:gamma", "reg:logistic", "reg:absoluteerror"])
def test_xgboost_links(objective: str) -> None:
    train = table(500, 1)
    y = target(train, "binary" if objective == "reg:logistic" else "regression").astype(float)
    pipeline = make_pipeline(encoder(), XGBRegressor(n_estimators=10, objective=objective)).fit(
        model_frame(train, FEATURES), y
    )
    assert gap(pipeline, "regression", table(300, 2)) <= 1e-6


def test_xgboost_stops_at_the_best_iteration() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)), rng.integers(0, 2, 400)
    model = XGBClassifier(n_estimators=60, early_stopping_rounds=3).fit(
        x[:200], y[:200], eval_set=[(x[200:], y[200:])], verbose=False
    )
    assert model.best_iteration < 59
    features = tuple(Feature(name, "number") for name in "abc")
    assert gap(model, "binary", pl.DataFrame(x, schema=list("abc")), features, as_array=True) <= 1.2e-7


ONE_HOT = [
    {"handle_unknown": "ignore", "drop": "if_binary"},
    {"handle_unknown": "infrequent_if_exist", "min_frequency": 30},
    {"handle_unknown": "ignore", "max_categories": 3},
    {"handle_unknown": "infrequent_if_exist", "max_categories": 2, "drop": "first"},
    {"handle_unknown": "ignore", "drop": "first"},
    {"handle_unknown": "warn", "sparse_output": False},
]


@pytest.mark.parametrize("options", ONE_HOT, ids=str)
def test_one_hot_options(options: dict[str, Any]) -> None:
    """Text, booleans and numbers, one-hot; every option means what it means to scikit-learn."""
    step = ColumnTransformer([
        ("w", OneHotEncoder(**options), ["plan", "region"]),
        ("n", OneHotEncoder(**options), ["active", "age"]),
        ("s", make_pipeline(SimpleImputer(), StandardScaler()), ["spend"]),
    ])  # fmt: skip
    model = fitted(make_pipeline(step, linear_model.LogisticRegression(max_iter=500)), "binary")
    rows = awkward(table(300, 2)).with_columns(age=pl.when(pl.col("age") == 20).then(20.5).otherwise(pl.col("age")))
    assert gap(model, "binary", rows) <= EXACT


@pytest.mark.parametrize("encode_words", [
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7, encoded_missing_value=-3),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9, encoded_missing_value=8, min_frequency=40),
    TargetEncoder(random_state=0),
], ids=name_of)  # fmt: skip
def test_table_encoders(encode_words: Any) -> None:
    numbers = make_pipeline(SimpleImputer(), MaxAbsScaler())
    step = ColumnTransformer([("w", encode_words, ["plan", "region", "active"]), ("n", numbers, ["age", "spend"])])
    model = fitted(make_pipeline(step, linear_model.Ridge()), "regression")
    assert gap(model, "regression", awkward(table(300, 2))) <= EXACT


def test_refused_category_answers_nan() -> None:
    """handle_unknown="error": scikit-learn raises; a compiled tree must not route the row as if nothing was wrong."""
    for words in (OneHotEncoder(sparse_output=False), OrdinalEncoder()):
        step = ColumnTransformer([("w", words, ["plan"])], remainder="drop")
        model = fitted(make_pipeline(step, tree.DecisionTreeClassifier(max_depth=3)), "binary", missing=0.0)
        rows = table(3, 9, missing=0.0).with_columns(plan=pl.Series(["Gold", "Platinum", None]))
        scored = OnnxScorer(compile_model(model, FEATURES, "binary")).score(encode(rows, FEATURES))
        assert np.isnan(scored[:, 0]).tolist() == [False, True, True]


@pytest.mark.parametrize("scaler", [
    StandardScaler(with_mean=False), StandardScaler(with_std=False), RobustScaler(), RobustScaler(with_centering=False),
    MinMaxScaler(feature_range=(-1, 2), clip=True), MaxAbsScaler(), PolynomialFeatures(3), PolynomialFeatures(2, interaction_only=True),
    FunctionTransformer(), "passthrough",
    FeatureUnion([("a", MinMaxScaler()), ("b", make_pipeline(PolynomialFeatures(2), StandardScaler()))], transformer_weights={"b": 0.5}),
    FeatureUnion([("a", "passthrough"), ("b", "drop")]),
], ids=str)  # fmt: skip
def test_number_steps(scaler: Any) -> None:
    numbers = Pipeline([("fill", SimpleImputer(strategy="constant", fill_value=3.5)), ("scale", scaler)])
    step = ColumnTransformer([("n", numbers, slice("age", "active"))], transformer_weights={"n": 0.3})
    model = fitted(make_pipeline(step, linear_model.Ridge()), "regression")
    assert gap(model, "regression", table(300, 2).with_columns(pl.col("age") * 3)) <= EXACT


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_imputing_with_indicator(strategy: str) -> None:
    step = ColumnTransformer([("n", SimpleImputer(strategy=strategy, add_indicator=True), [0, 1, 2])])
    model = fitted(make_pipeline(step, linear_model.LogisticRegression(max_iter=500)), "binary")
    assert gap(model, "binary", table(300, 2)) <= EXACT


@pytest.mark.parametrize(
    "options", [{"strategy": "constant", "fill_value": "none"}, {"strategy": "most_frequent"}], ids=str
)
def test_imputing_words(options: dict[str, Any]) -> None:
    words = make_pipeline(SimpleImputer(missing_values=None, **options), OneHotEncoder(handle_unknown="ignore"))
    step = ColumnTransformer([("w", words, ["plan", "region"]), ("n", SimpleImputer(), ["age"])])
    model = fitted(make_pipeline(step, linear_model.LogisticRegression(max_iter=500)), "binary")
    assert gap(model, "binary", awkward(table(300, 2))) <= EXACT


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
], ids=str)  # fmt: skip
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


def test_schema_categories_the_encoder_never_saw() -> None:
    """The schema may know more words than the training fold: they are unseen to the encoder."""
    wide = (*FEATURES[:3], Feature("plan", "category", ("Aqua", *WORDS)), FEATURES[4])
    for words in (OneHotEncoder(), OneHotEncoder(handle_unknown="ignore", drop="first")):
        step = ColumnTransformer([("w", words, ["plan"])])
        model = fitted(make_pipeline(step, linear_model.LogisticRegression()), "binary", missing=0.0)
        rows = table(4, 9, missing=0.0)
        assert gap(model, "binary", rows, wide) <= EXACT
        scored = OnnxScorer(compile_model(model, wide, "binary")).score(np.array([[20.0, 1, 1, 0, 0]]))
        assert np.isnan(scored[0, 0]) == (words.handle_unknown == "error")


def test_columns_empty_in_training() -> None:
    """A number and a word that are always missing: one-hot knows them as missing, imputing keeps or drops them."""
    frame = table(300, 1).with_columns(spend=pl.lit(None, pl.Float64), region=pl.lit(None, pl.String))
    features = (*FEATURES[:4], Feature("region", "category", ()))
    hot = ColumnTransformer([("w", OneHotEncoder(handle_unknown="ignore"), ["plan", "region", "spend", "active"])])
    only = ColumnTransformer([("w", OneHotEncoder(handle_unknown="ignore"), ["spend"])])
    drop = ColumnTransformer([("n", SimpleImputer(), ["age", "spend"])])
    for step in (hot, only, drop, scaled_encoder()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make_pipeline(step, linear_model.LogisticRegression()).fit(
                model_frame(frame, features), target(frame, "binary")
            )
            rows = pl.concat([frame, frame.head(20).with_columns(spend=pl.lit(3.0), region=pl.lit("moon"))])
            assert gap(model, "binary", rows, features) <= EXACT


def test_frames_between_the_steps() -> None:
    model = make_pipeline(encoder(), StandardScaler(), ensemble.HistGradientBoostingClassifier(max_iter=5)).set_output(
        transform="polars"
    )
    assert gap(fitted(model, "binary"), "binary", awkward(table(200, 2))) <= EXACT


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
