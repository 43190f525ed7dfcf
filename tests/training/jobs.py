"""Small seeded training jobs for the three tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ecluse.core.contract import Boolean, Category, Column, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.model import Label, Model
from ecluse.core.settings import Settings, resolve
from ecluse.core.snapshot import Dataset
from ecluse.core.view import FeatureView, last, mean
from ecluse.training.make import Job

USER = Entity("user")
MOMENT = datetime(2024, 1, 31, tzinfo=UTC)
FACTS = Table("facts", USER, {
    "age": Number(min=0, nulls=0.5), "plan": Category(["Basic", "Gold", "Silver"], nulls=0.5), "senior": Boolean(),
})  # fmt: skip
LABEL_COLUMNS: Mapping[str, Column] = {
    "binary": Boolean(),
    "multiclass": Category(["a", "b", "c"]),
    "regression": Number(),
}
JUDGED_BY = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
VIEW = FeatureView(
    "facts",
    FACTS,
    {"age": last("age"), "plan": last("plan"), "senior": last("senior"), "mean_age": mean("age", over="30d")},
)


def model_of(task: str, build: Callable[..., Any] | None = None, view: FeatureView = VIEW) -> Model:
    """A model of the task whose estimator is what ``build()`` returns."""
    label = Label("y", Table("truths", USER, {"y": LABEL_COLUMNS[task]}), "y")
    return Model("churn", label, (view,), JUDGED_BY[task], build=build)


def table(rows: int, seed: int = 0) -> pl.DataFrame:
    """A joined frame: keys, moments over four months, features with missing ones, and the view's event."""
    rng = np.random.default_rng(seed)
    at = [MOMENT - timedelta(days=30 * int(month)) for month in rng.integers(0, 4, rows)]
    age = rng.normal(40, 12, rows)
    frame = pl.DataFrame({
        "__key": [f"u{i}" for i in range(rows)],
        "__at": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
        "age": np.where(rng.random(rows) < 0.1, np.nan, age),
        "plan": rng.choice(["Basic", "Gold", "Silver"], rows),
        "senior": rng.random(rows) < 0.3,
        "mean_age": age,
        "__event:facts": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
    })  # fmt: skip
    return frame.with_columns(
        pl.col("age").fill_nan(None),
        pl.when(pl.Series(rng.random(rows) < 0.05)).then(None).otherwise("plan").alias("plan"),
    )


def truth(frame: pl.DataFrame, task: str, seed: int = 0) -> pl.Series:
    """Labels that depend on age and plan, with noise."""
    rng = np.random.default_rng(seed + 1)
    gold = (frame["plan"] == "Gold").fill_null(value=False).to_numpy()
    value = (frame["mean_age"].to_numpy() - 40) / 12 + 1.5 * gold + rng.normal(0, 0.7, frame.height)
    if task == "regression":
        return pl.Series("y", value)
    if task == "binary":
        return pl.Series("y", value > 0.5)
    return pl.Series("y", np.array(["a", "b", "c"])[np.digitize(value, [-0.3, 0.9])])


def job(
    build: Callable[..., Any],
    task: str = "binary",
    *,
    rows: int = 600,
    view: FeatureView = VIEW,
    root: Path = Path(),
    **file: Any,
) -> Job:
    """A job over a seeded table; ``file`` are tables of ecluse.toml."""
    frame = table(rows)
    return Job(
        model_of(task, build, view), settings(**file), {}, Dataset((), MOMENT), frame, truth(frame, task), "code", root
    )


def settings(**file: Any) -> Settings:
    """Settings of the dev profile with these tables."""
    return resolve(file, "dev", {})
