"""A peer: a BentoML service over the scikit-learn pipeline. Started by ``bentoml serve peer_bentoml:Churn``, its defaults kept."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import joblib
import pandas as pd
from pydantic import BaseModel


class Row(BaseModel):
    """The features, as raw as they come."""

    fee: float
    hours: float
    payment: str
    plan: str
    tenure: float


@bentoml.service
class Churn:
    """One service, one worker (the default)."""

    def __init__(self) -> None:
        self.model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")

    @bentoml.api
    def predict(self, row: Row) -> dict[str, float]:
        return {"proba": float(self.model.predict_proba(pd.DataFrame([row.model_dump()]))[0, 1])}
