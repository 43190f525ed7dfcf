"""The model that every server of the comparison answers with: five raw features, one-hot and scaling, 100 trees of 31 leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model

PLANS, PAYMENTS = ("annual", "family", "monthly"), ("card", "invoice", "transfer")
FEATURES = (
    Feature("fee", "number"),
    Feature("hours", "number"),
    Feature("payment", "category", PAYMENTS),
    Feature("plan", "category", PLANS),
    Feature("tenure", "number"),
)
NUMBERS = [each.name for each in FEATURES if each.kind == "number"]
WORDS = [each.name for each in FEATURES if each.kind == "category"]
BODIES = 64


@dataclass(frozen=True)
class Churn:
    """The fitted pipeline, its compiled form, and the rows asked about with scikit-learn's answers (doubles)."""

    pipeline: Pipeline
    features: tuple[Feature, ...]
    onnx: bytes
    rows: list[dict[str, Any]]
    answers: list[float]

    def write(self, folder: Path) -> None:
        """What the peers load: ``model.joblib``, ``model.onnx``, ``features.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        joblib.dump(self.pipeline, folder / "model.joblib")
        (folder / "model.onnx").write_bytes(self.onnx)
        plain = [{"name": each.name, "categories": each.categories} for each in self.features]
        (folder / "features.json").write_text(json.dumps(plain))


def table(rows: int, seed: int) -> pl.DataFrame:
    """Customers drawn at random: fee, hours watched, tenure in months, plan and way of payment."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "fee": rng.uniform(5, 30, rows).round(2),
            "hours": rng.gamma(2, 20, rows).round(1),
            "payment": rng.choice(PAYMENTS, rows),
            "plan": rng.choice(PLANS, rows),
            "tenure": rng.integers(0, 72, rows).astype(float),
        }
    )


def make_churn(trees: int = 100) -> Churn:
    """Fit and compile on 6,000 seeded rows; the rows asked about are of another seed."""
    frame = table(6_000, 0)
    noise = np.random.default_rng(1).normal(size=frame.height)
    leaning = 0.08 * frame["fee"] - 0.03 * frame["hours"] - 0.02 * frame["tenure"] + 0.8 * (frame["plan"] == "monthly")
    encode = ColumnTransformer([("numbers", StandardScaler(), NUMBERS), ("words", OneHotEncoder(), WORDS)])
    trees_ = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=31, early_stopping=False, random_state=0)
    pipeline = make_pipeline(encode, trees_).fit(frame, leaning.to_numpy() + noise > 0)
    asked = table(BODIES, 2)
    answers = pipeline.predict_proba(asked)[:, 1].tolist()
    return Churn(pipeline, FEATURES, compile_model(pipeline, FEATURES, "binary"), asked.to_dicts(), answers)
