"""Runs, versions and bundles to mirror, and an MLflow database made once: making one takes seconds."""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.training.jobs import job, model_of

from ecluse.adapters.mlflow_tracker import MlflowTracker
from ecluse.app import open_scorer
from ecluse.core.bundle import Bundle
from ecluse.core.codec import canonical
from ecluse.core.contract import Column, Instant, Integer
from ecluse.core.expression import AS_OF, feature
from ecluse.core.model import Model
from ecluse.core.settings import MlflowSettings
from ecluse.frames.expression import to_number
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.make import Job, make

ESTIMATORS: dict[str, Any] = {
    "binary": lambda: make_pipeline(encoder(), RandomForestClassifier(5, min_samples_leaf=5)),
    "multiclass": lambda: make_pipeline(scaled_encoder(), LogisticRegression()),
    "regression": lambda: make_pipeline(encoder(), HistGradientBoostingRegressor(max_iter=5)),
}


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tracker = MlflowTracker(Path(folder), MlflowSettings(), "water")
        with tracker._asking() as client:
            client.search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


def tracker_in(home: Path, project: str = "water") -> MlflowTracker:
    """A tracker over a database with MLflow's tables and nothing in them."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "mlflow.db").write_bytes(_empty_database())
    return MlflowTracker(home, MlflowSettings(), project)


def forget(home: Path) -> None:
    """Delete the mirror."""
    (home / "mlflow.db").unlink()
    shutil.rmtree(home / "mlartifacts", ignore_errors=True)


def address(home: Path) -> str:
    """What MLflow calls the mirror's database."""
    return f"sqlite:///{home / 'mlflow.db'}"


def _job(task: str) -> Job:
    """A job of a model with request fields and derived features that read them and the moment."""
    plain = job(ESTIMATORS[task], task, rows=300)
    derived: dict[str, Any] = {
        "ratio": feature("age") / feature("mean_age"),
        "gold": feature("plan").equals("Gold") & ~feature("senior"),
        "month": AS_OF.month(),
        "known_days": (AS_OF - feature("since")).days(),
    }
    request: dict[str, Column] = {"clicks": Integer(min=0, nulls=0.5), "since": Instant()}
    plain_model = model_of(task, ESTIMATORS[task])
    model = Model(
        "churn",
        plain_model.predicts,
        plain_model.features,
        plain_model.judged_by,
        derived,
        request,
        build=plain_model.build,
    )
    rng = np.random.default_rng(7)
    frame = plain.frame.with_columns(
        pl.Series("clicks", rng.integers(0, 9, plain.frame.height)).cast(pl.Float64),
        since=plain.frame["__at"].dt.offset_by(
            pl.Series([f"-{hours}h" for hours in rng.integers(1, 900, plain.frame.height)])
        ),
    )
    columns = [to_number(node, model.raw_kinds).alias(name) for name, node in model.derived.items()]
    return replace(plain, model=model, frame=frame.with_columns(columns))


@functools.cache
def trained(task: str) -> tuple[Bundle, pl.DataFrame]:
    """A bundle and the rows it was trained on, with raw and derived columns."""
    its = _job(task)
    product = make(its, open_scorer)
    assert product.bundle is not None, product.verdict
    return product.bundle, its.frame


def written(bundle: Bundle, root: Path) -> Path:
    """The bundle as a folder named by its digest."""
    folder = root / bundle.digest
    folder.mkdir(parents=True)
    for name, data in {**bundle.files, "manifest.json": canonical(bundle.manifest)}.items():
        (folder / name).write_bytes(data)
    return folder
