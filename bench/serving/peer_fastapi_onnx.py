"""A peer: FastAPI and pydantic over onnxruntime, given Écluse's own exact compiled model and encoding by hand. Started by uvicorn.

``/predict`` answers on the event loop (`async def`), ``/predict/pool`` in the framework's thread pool, as an ordinary `def` does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel, Field

folder = Path(os.environ["BENCH_MODEL"])
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession((folder / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"])
places = {
    each["name"]: {word: float(i) for i, word in enumerate(each["categories"])}
    for each in json.loads((folder / "features.json").read_text())
    if each["categories"]
}
app = FastAPI()


class Row(BaseModel):
    """The features within their ranges."""

    fee: Annotated[float, Field(ge=0, le=100)]
    hours: Annotated[float, Field(ge=0, le=744)]
    payment: Literal["card", "invoice", "transfer"]
    plan: Literal["annual", "family", "monthly"]
    tenure: Annotated[float, Field(ge=0, le=600)]


def answer(row: Row) -> dict[str, float]:
    values = [row.fee, row.hours, places["payment"][row.payment], places["plan"][row.plan], row.tenure]
    return {"proba": float(session.run(None, {"x": np.array([values])})[0][0, 0])}


@app.post("/predict")
async def predict(row: Row) -> dict[str, float]:
    return answer(row)


@app.post("/predict/pool")
def predict_in_the_pool(row: Row) -> dict[str, float]:
    return answer(row)
