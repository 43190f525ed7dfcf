"""Encoders, scalers and other steps, compiled: every option means what it means to scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import ensemble, linear_model, tree
from sklearn.compose import ColumnTransformer
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
from tests.training.compiled import EXACT, FEATURES, WORDS, awkward, fitted, gap, name_of, table, target

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encode import encode, model_frame
from ecluse.training.encoders import encoder, scaled_encoder

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
