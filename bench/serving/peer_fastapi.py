"""A peer, as FastAPI's tutorials serve a model: pydantic, a one-row pandas frame, the scikit-learn pipeline. Started by uvicorn."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")


class Row(BaseModel):
    """The features, as raw as they come."""

    fee: float
    hours: float
    payment: str
    plan: str
    tenure: float


@app.post("/predict")
def predict(row: Row) -> dict[str, float]:
    return {"proba": float(model.predict_proba(pd.DataFrame([row.model_dump()]))[0, 1])}
