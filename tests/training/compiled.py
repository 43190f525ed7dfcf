"""What the tests of compiled models share: an awkward table, targets, and the gap between an estimator and its compiled form."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encode import encode, model_frame

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


def name_of(value: object) -> str:
    return type(value).__name__ if isinstance(value, BaseEstimator) else str(value)
