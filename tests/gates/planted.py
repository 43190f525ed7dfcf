"""Evidence the gate tests plant: a good candidate in each task, to which each test does one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ecluse.core.contract import Category, Column, Number
from ecluse.core.entity import Entity
from ecluse.core.schema import Feature, Schema, StoredView
from ecluse.core.settings import Gates, NonRegression
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Array, Champion, Evidence
from ecluse.gates.judge import Check

USER = Entity("user_id")
PASSED, FAILED, INCONCLUSIVE = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE
GATES = Gates(non_regression=NonRegression(may_lose=0.01, rounds=200))


def schema_of(task: Any = "binary", **changes: Any) -> Schema:
    columns: dict[str, Column] = {"age": Number(min=0, max=120, nulls=1.0), "plan": Category(["Basic", "Gold"])}
    schema = Schema(
        model="churn",
        task=task,
        features=(Feature("age", "number"), Feature("plan", "category", ("Basic", "Gold"))),
        views=(StoredView("profile", USER, {"age": "number", "plan": "category"}, None, "refuse"),),
        columns=columns,
        request=(),
        derived={},
        accepts="entity",
        classes=("low", "mid", "high") if task == "multiclass" else (),
    )
    return replace(schema, **changes)


def target(task: str, signal: Array) -> Array:
    if task == "regression":
        return np.asarray(10 * signal)
    if task == "multiclass":
        return np.digitize(signal, [-0.5, 0.5]).astype(float)
    return (signal > 0).astype(float)


def answers_for(task: str, signal: Array) -> Array:
    """What a model that sees ``signal`` answers."""
    if task == "regression":
        return np.asarray(10 * signal)
    if task == "multiclass":
        scores = np.exp(-2 * np.abs(signal[:, None] - np.array([-1.0, 0.0, 1.0])))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-2 * signal)))


def evidence(task: Any = "binary", rows: int = 800, noise: float = 0.7, seed: int = 0, **changes: Any) -> Evidence:
    """A good candidate: it sees the truth through some noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    y, answers = target(task, truth), answers_for(task, truth + noise * rng.normal(size=rows))
    judged_by = {"binary": "roc_auc", "multiclass": "macro_f1", "regression": "rmse"}[task]
    age = np.where(rng.random(rows) < 0.1, np.nan, 40 + 3 * truth + 20 * rng.normal(size=rows))
    made = Evidence(
        task=task,
        judged_by=judged_by,
        y=y,
        keys=np.array([f"u{i % (rows * 3 // 4)}" for i in range(rows)]),
        answers=answers,
        schema=schema_of(task),
        inputs=pl.DataFrame({"age": age, "plan": rng.choice(["Basic", "Gold"], rows)}).with_columns(
            pl.col("age").fill_nan(None)
        ),
        latency_ms=0.4,
        bundle_bytes=2_000_000,
        threshold=0.5 if task == "binary" else None,
        trained_threshold=0.5 if task == "binary" else None,
        train={"roc_auc": 0.9, "macro_f1": 0.65, "rmse": 6.5},
    )
    return replace(made, **changes)


def champion_of(made: Evidence, noise: float = 0.0, seed: int = 1, **changes: Any) -> Champion:
    """A champion that answers as the candidate does, through more noise."""
    rng = np.random.default_rng(seed)
    blurred = made.answers + noise * rng.normal(size=made.answers.shape)
    every = np.ones(made.rows, dtype=bool)
    return replace(Champion(3, made.schema, blurred, every, made.threshold), **changes)


def only(check: Check, made: Evidence, gates: Gates = GATES) -> Finding:
    """The single finding of a check."""
    (finding,) = check(made, gates)
    return finding


def outcomes(check: Check, made: Evidence, gates: Gates = GATES) -> dict[str, Outcome]:
    """Outcome by subject."""
    return {finding.subject: finding.outcome for finding in check(made, gates)}
