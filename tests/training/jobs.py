"""Small seeded training jobs for the three tasks, and the scorer that serves either kind of bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.bundle import Bundle
from ecluse.core.contract import Boolean, Category, Column, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.model import Label, Model
from ecluse.core.ports import Scorer
from ecluse.core.settings import Settings, resolve
from ecluse.core.snapshot import Dataset
from ecluse.core.view import FeatureView, last, mean
from ecluse.training.make import Job
from ecluse.training.skops_file import load

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


class SkopsScorer:
    """The estimator of a skops bundle on the encoded matrix: what a scorer process does, in this process."""

    def __init__(self, bundle: Bundle) -> None:
        self._schema, self._estimator = bundle.schema, load(bundle.model_bytes)

    def score(self, matrix: Any) -> Any:
        """Decode the columns, predict, answer [n, K]."""
        columns = {}
        for i, feature in enumerate(self._schema.features):
            words = feature.categories
            columns[feature.name] = matrix[:, i] if words is None else [_word(words, code) for code in matrix[:, i]]
        frame = pl.DataFrame(
            columns, schema={f.name: pl.Float64 if f.categories is None else pl.String for f in self._schema.features}
        )
        if self._schema.task == "regression":
            return np.asarray(self._estimator.predict(frame), dtype=np.float64).reshape(-1, 1)
        answers = np.asarray(self._estimator.predict_proba(frame), dtype=np.float64)
        return answers if self._schema.task == "multiclass" else answers[:, 1:]


def _word(words: tuple[str, ...], code: float) -> str | None:
    if code != code:
        return None
    return "\x00never seen" if code < 0 else words[int(code)]


def open_scorer(bundle: Bundle) -> Scorer:
    """The scorer of a bundle, of either kind."""
    return OnnxScorer(bundle.model_bytes) if bundle.manifest.scorer == "onnx" else SkopsScorer(bundle)
