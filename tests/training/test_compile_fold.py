"""Folded encoders: trees over raw columns answer, at every cut and one double beside it, what scikit-learn answers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from onnx import helper, numpy_helper
from sklearn import ensemble, linear_model, tree
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from tests.training.compiled import EXACT, answers
from xgboost import XGBClassifier

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.schema import Feature
from ecluse.training.compile import grow
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encode import encode, model_frame

WORDS = tuple(f"w{i:02}" for i in range(40))
FEATURES = (
    Feature("big", "number"),
    Feature("grid", "number"),
    Feature("tiny", "number"),
    Feature("few", "category", WORDS[:3]),
    Feature("many", "category", WORDS),
)
NUMBERS = ["big", "grid", "tiny"]

SCALERS: list[Any] = [
    "passthrough",
    StandardScaler(),
    RobustScaler(),
    MinMaxScaler(feature_range=(-3, 1), clip=True),
    MinMaxScaler(),
    MaxAbsScaler(),
    make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
    make_pipeline(SimpleImputer(add_indicator=True), MaxAbsScaler()),
    make_pipeline(StandardScaler(), RobustScaler()),
    make_pipeline(SimpleImputer(), PolynomialFeatures(2)),
    FeatureUnion([("a", "passthrough"), ("b", StandardScaler())]),
    make_pipeline(SimpleImputer(), OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
]
ENCODERS: list[Any] = [
    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    OneHotEncoder(handle_unknown="ignore", drop="first", sparse_output=False),
    OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=12, sparse_output=False),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
    TargetEncoder(random_state=0),
    make_pipeline(TargetEncoder(random_state=0), StandardScaler()),
    make_pipeline(
        SimpleImputer(missing_values=None, strategy="constant", fill_value="w00"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    ),
]
MODELS: list[Any] = [
    ensemble.HistGradientBoostingClassifier(max_iter=6, max_leaf_nodes=12, min_samples_leaf=3),
    ensemble.RandomForestClassifier(4, max_depth=7, random_state=0),
    ensemble.ExtraTreesClassifier(3, max_depth=5, random_state=0),
    tree.DecisionTreeClassifier(random_state=0),
    LGBMClassifier(n_estimators=6, min_child_samples=3, verbose=-1),
    XGBClassifier(n_estimators=6, max_depth=4),
]


def table(rows: int, seed: int, missing: float = 0.08) -> pl.DataFrame:
    """Large numbers close together, halves that meet thresholds, numbers at the edge of what doubles hold; many words."""
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {
        "big": 1e9 + rng.integers(0, 60, rows) * 0.125,
        "grid": rng.integers(-8, 8, rows) / 2,
        "tiny": rng.choice([0.0, -0.0, 5e-324, -5e-324, 1e-310, -3e-320, 2.3e-308, 1e-20], rows),
        "few": rng.choice(WORDS[:3], rows),
        "many": rng.choice(WORDS[:-2], rows, p=np.linspace(1, 3, 38) / np.linspace(1, 3, 38).sum()),
    }
    frame = pl.DataFrame(data)
    return frame.with_columns(
        pl.when(pl.Series(rng.random(rows) < missing)).then(None).otherwise(pl.col(name)).alias(name)
        for name in frame.columns
    )


def labels(frame: pl.DataFrame) -> np.ndarray:
    code = frame["many"].fill_null("w00").str.slice(1).cast(pl.Int64).to_numpy()
    z = frame["grid"].fill_null(1).to_numpy() + (frame["big"].fill_null(1e9).to_numpy() - 1e9) / 4 - 1
    return np.asarray(z + 3.0 * np.isin(code % 7, [1, 3]) + np.random.default_rng(3).normal(size=len(z)) > 2.0).astype(
        int
    )


def edges(compiled: bytes, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``frame`` with numbers at cuts of the compiled trees, and at the doubles beside them."""
    node = next(node for node in onnx.load_model_from_string(compiled).graph.node if node.op_type == "TreeEnsemble")
    held = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    columns, cuts = np.array(held["nodes_featureids"]), numpy_helper.to_array(held["nodes_splits"]).astype(np.float64)
    rows = frame.sample(400, with_replacement=True, seed=1)
    rng = np.random.default_rng(0)
    for i, name in enumerate(NUMBERS):
        mine = cuts[columns == i]
        mine = mine[np.isfinite(mine)]
        near = np.concatenate([mine, np.nextafter(mine, np.inf), np.nextafter(mine, -np.inf), [0.0, -0.0]])
        rows = rows.with_columns(pl.Series(name, rng.choice(near, rows.height)))
    return rows


def nodes(compiled: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(compiled).graph.node]


def fitted(step: Any, model: Any, frame: pl.DataFrame) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_pipeline(step, model).fit(model_frame(frame, FEATURES), labels(frame))


def difference(model: Any, compiled: bytes, rows: pl.DataFrame) -> float:
    told = answers(model, model_frame(rows, FEATURES), "binary")
    return float(np.abs(told - OnnxScorer(compiled).score(encode(rows, FEATURES))).max())


CHOICES = {
    "scaler": st.sampled_from(SCALERS),
    "few": st.sampled_from(ENCODERS),
    "many": st.sampled_from(ENCODERS),
    "model": st.sampled_from(MODELS),
    "weight": st.sampled_from([None, -1.0, 0.3, -1e-3]),
    "seed": st.integers(0, 10_000),
    "room": st.sampled_from([1000.0, -np.inf]),  # copies of subtrees, or nodes over sets
}


def check(scaler: Any, few: Any, many: Any, model: Any, weight: float | None, seed: int, room: float) -> None:
    """A pipeline on its rows, on rows with words never seen, and on rows at the cuts of its compiled trees."""
    weights = None if weight is None else {"numbers": weight}
    steps = [("few", few, ["few"]), ("numbers", scaler, NUMBERS), ("many", many, ["many"])]
    frame = table(300, seed)
    pipeline = fitted(ColumnTransformer(steps, transformer_weights=weights), model, frame)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grow, "_ROOM", room)
        compiled = compile_model(pipeline, FEATURES, "binary")
    unseen = frame.head(30).with_columns(few=pl.lit("other"), many=pl.lit(WORDS[-1]))
    rows = pl.concat([frame, unseen, edges(compiled, frame)])
    assert difference(pipeline, compiled, rows) <= (1.2e-7 if isinstance(model, XGBClassifier) else EXACT)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(**CHOICES)
def test_any_pipeline_at_every_cut(**chosen: Any) -> None:
    check(**chosen)


@pytest.mark.nightly
@settings(max_examples=1500, deadline=None)
@given(**CHOICES)
def test_many_pipelines_at_every_cut(**chosen: Any) -> None:
    check(**chosen)


@pytest.mark.parametrize("model", MODELS[:5], ids=lambda model: type(model).__name__)
def test_nothing_but_trees_and_link_is_left(model: Any) -> None:
    """Scaled and filled numbers, one-hot, ordinal and target-encoded words: the trees read ``x`` itself."""
    step = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        ("few", OneHotEncoder(sparse_output=False), ["few"]),
        ("many", make_pipeline(TargetEncoder(random_state=0), MinMaxScaler()), ["many"]),
    ])  # fmt: skip
    frame = table(400, 1, missing=0.0)
    pipeline = fitted(step, model, frame)
    compiled = compile_model(pipeline, FEATURES, "binary")
    assert compiled == compile_model(pipeline, FEATURES, "binary")
    assert difference(pipeline, compiled, pl.concat([frame, edges(compiled, frame)])) <= EXACT
    assert nodes(compiled)[0] == "TreeEnsemble"
    assert len(nodes(compiled)) <= 4
    refused = encode(frame.head(2), FEATURES)
    refused[:, 3] = [-1.0, np.nan]
    assert np.isnan(OnnxScorer(compiled).score(refused)).all()


@pytest.mark.parametrize("words", ENCODERS, ids=str)
def test_words_of_linear_models_are_looked_up_in_x(words: Any) -> None:
    """Tables of weighted words, unseen and missing ones too, and only numbers multiplied."""
    step = ColumnTransformer([
        ("words", make_pipeline(words, SimpleImputer(strategy="constant", fill_value=9.0)), ["few", "many"]),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
    ])  # fmt: skip
    frame = table(400, 4)
    pipeline = fitted(step, linear_model.LogisticRegression(max_iter=300), frame)
    compiled = compile_model(pipeline, FEATURES, "binary")
    unseen = frame.head(30).with_columns(few=pl.lit("other"), many=pl.lit(WORDS[-1]))
    assert difference(pipeline, compiled, pl.concat([frame, unseen])) <= EXACT
    assert "Equal" not in nodes(compiled)
    assert len(nodes(compiled)) <= 11


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_refused_rows_are_nan_in_every_answer(kind: str) -> None:
    """A category the encoder refuses, a schema category it never saw, a code beyond: NaN, whatever the trees."""
    frame = table(300, 2, missing=0.0)
    y = labels(frame) + (frame["few"] == "w01").to_numpy()
    step = ColumnTransformer([("few", OneHotEncoder(), ["few"]), ("big", OrdinalEncoder(), ["many"])])
    features = (*FEATURES[:4], Feature("many", "category", (*WORDS[:20], "never", *WORDS[20:])))
    library = [ensemble.RandomForestRegressor, ensemble.GradientBoostingRegressor]
    if kind == "multiclass":
        library = [ensemble.RandomForestClassifier, ensemble.GradientBoostingClassifier]
    for each in library:
        model = make_pipeline(step, each(n_estimators=3, random_state=0)).fit(model_frame(frame, FEATURES), y)
        scorer = OnnxScorer(compile_model(model, features, kind))
        rows: np.ndarray = np.repeat(encode(frame.head(1), features), 7, axis=0)
        rows[1:, 4] = [-1, 20, 41, np.nan, 5, 5]
        rows[5, 3] = 3
        assert np.isnan(scorer.score(rows)).all(axis=1).tolist() == [False, True, True, True, True, True, False]
        assert np.isnan(scorer.score(rows)).any(axis=1).tolist() == [False, True, True, True, True, True, False]


def test_lightgbm_reads_the_smallest_numbers_as_zero_and_infinity_as_a_threshold() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(-2, 3, 400) / 2.0, np.where(rng.random(400) < 0.3, np.nan, 1.0)], axis=1)
    model = LGBMClassifier(n_estimators=5, min_child_samples=3, verbose=-1)
    model.fit(x, (x[:, 0] > 0) ^ np.isnan(x[:, 1]))
    zero = float(np.float32(1e-35))
    near = [0.0, zero, np.nextafter(zero, 1), np.nextafter(zero, 0), 1e-300, 5e-324]
    rows = np.array([[sign * a, b] for a in near for sign in (1, -1) for b in (np.nan, 1.0, 1e300, 1.7e308, -1.7e308)])
    features = (Feature("a", "number"), Feature("b", "number"))
    scored = OnnxScorer(compile_model(model, features, "binary")).score(rows)
    assert np.abs(scored - answers(model, rows, "binary")).max() <= EXACT
