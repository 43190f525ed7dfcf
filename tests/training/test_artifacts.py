"""Artifacts: numbers that agree with the metrics, plots that are PNG, the same bytes each time."""

import csv
import io
import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from tests.training.jobs import JUDGED_BY, job

from ecluse.app import open_scorer
from ecluse.training import plots
from ecluse.training.artifacts import HeldOut, coefficients, make_artifacts
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.make import PREDICTION, Y, make

PNG = b"\x89PNG\r\n"
ESTIMATORS: dict[str, Any] = {
    "binary": lambda: make_pipeline(scaled_encoder(), LogisticRegression()),
    "multiclass": lambda: make_pipeline(encoder(), RandomForestClassifier(10, min_samples_leaf=5)),
    "regression": lambda: make_pipeline(scaled_encoder(), Ridge()),
}
EXPECTED = {
    "binary": {"roc_curve", "pr_curve", "calibration", "confusion_matrix", "importance"},
    "multiclass": {"roc_curve", "calibration", "confusion_matrix", "importance"},
    "regression": {"importance"},
}


def artifacts(task: str) -> dict[str, bytes]:
    product = make(job(ESTIMATORS[task], task), open_scorer)
    assert product.bundle is not None
    assert product.held_out is not None
    frame = product.held_out
    answers = frame.select(pl.col(f"^{PREDICTION}.*$")).to_numpy()
    held = HeldOut(frame, frame[Y].to_numpy(), answers)
    return make_artifacts(
        held, product.bundle.schema, open_scorer(product.bundle), judged_by=JUDGED_BY[task], threshold=product.threshold
    )


@pytest.mark.parametrize("task", list(ESTIMATORS))
def test_every_task_has_its_artifacts(task: str) -> None:
    files = artifacts(task)
    for name in EXPECTED[task]:
        assert json.loads(files[f"{name}.json"]), name
        assert files[f"{name}.png"].startswith(PNG)
    assert artifacts(task) == files
    losses = json.loads(files["importance.json"])["loss"]
    assert next(iter(losses)) in ("mean_age", "plan")  # the labels were made of these
    assert losses["mean_age"] > 0
    rows = list(csv.DictReader(io.StringIO(files["sample_predictions.csv"].decode())))
    assert rows[0]["key"].startswith("u")
    assert {"truth", "age", "plan"} <= set(rows[0])


def test_without_matplotlib_there_are_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "can_plot", lambda: False)
    files = artifacts("binary")
    assert {name.rpartition(".")[2] for name in files} == {"json", "csv"}


def test_coefficients_are_named_where_linear() -> None:
    x = pl.DataFrame({"age": [1.0, 2.0, 3.0, 4.0], "plan": ["a", "b", "a", "b"]})
    linear = make_pipeline(scaled_encoder(), LogisticRegression()).fit(x, np.array([0, 1, 0, 1]))
    found = coefficients(linear)
    assert found is not None
    assert found["names"] == ["plan_a", "plan_b", "age"]
    assert np.array(found["coefficients"]).shape == (1, 3)
    assert coefficients(make_pipeline(encoder(), RandomForestClassifier(2)).fit(x, np.array([0, 1, 0, 1]))) is None
