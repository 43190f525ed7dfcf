"""From a drift event to a released or refused version, on DBOS, with trainings in child processes (killed on the way: ``test_r3_killed_loop.py``)."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tests.monitoring.records import predictions

from ecluse.adapters.journal_files import Journal
from ecluse.app import App, open_app
from ecluse.core.event import LedgerRow, broken_at
from ecluse.loop.pause import pause, resume

JANUARY, FEBRUARY = datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)
ROWS = 1_200

PROJECT = """
from ecluse import Boolean, Category, Entity, FeatureView, Label, Number, Table, last, model

user = Entity("user_id")
use = Table("use", user, {"hours": Number(), "age": Number(min=0), "plan": Category(["Basic", "Gold"])})
labels = Table("labels", user, {"left": Boolean()})
view = FeatureView("view", use, features={"hours": last("hours"), "age": last("age"), "plan": last("plan")})

@model("churn", predicts=Label("churned", labels, "left"), features=[view], judged_by="roc_auc")
def churn(strength: float = 1.0):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from ecluse.training.encoders import scaled_encoder
    return make_pipeline(scaled_encoder(), LogisticRegression(C=strength))
"""
SETTINGS = """
project = "water"
[time]
now = "data"
[training]
history = "20d"
validation = "20d"
[gates]
floor = {{ roc_auc = {floor} }}
latency_ms = 1000.0   # the machine may be busy
max_gap = 0.5
[gates.sanity]
max_psi = 100.0
[policy]
promotion = "automatic"
[mlflow]
enabled = false
"""


def month(folder: Path, *, flipped: bool, seed: int) -> dict[str, list[Any]]:
    """Who leaves: those who watch little, until it turns and those leave who watch much."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {
        "hours": rng.normal(40 if flipped else 20, 8, ROWS).round(3).tolist(),
        "age": rng.integers(18, 80, ROWS).astype(float).tolist(),
        "plan": rng.choice(["Basic", "Gold"], ROWS).tolist(),
    }
    away = (np.array(columns["hours"]) - (40 if flipped else 20)) / 8 * (1 if flipped else -1)
    left = rng.random(ROWS) < 1 / (1 + np.exp(-2.5 * away))
    folder.mkdir()
    lines = [f"u{i},{h},{a},{p}" for i, (h, a, p) in enumerate(zip(*columns.values(), strict=True))]
    (folder / "use.csv").write_text("\n".join(["user_id,hours,age,plan", *lines]) + "\n")
    truths = [f"u{i},{str(bool(gone)).lower()}" for i, gone in enumerate(left)]
    (folder / "labels.csv").write_text("\n".join(["user_id,left", *truths]) + "\n")
    return columns


def drifted_project(root: Path, floor: float = 0.7) -> App:
    """A project whose version 1 serves January's model on February's traffic, and a monitor that has seen it."""
    root.mkdir()
    (root / "project.py").write_text(PROJECT)
    (root / "ecluse.toml").write_text(SETTINGS.format(floor=0.7))
    month(root / "data0", flipped=False, seed=1)
    app = open_app(root)
    app.ingest(root / "data0", JANUARY)
    trained = app.train("churn")
    assert trained.run is not None
    number = app.register(trained.run.id).number
    assert app.gate("churn", number).verdict.passed
    app.promote("churn", number, reason="first")
    columns = month(root / "data1", flipped=True, seed=2)
    app.ingest(root / "data1", FEBRUARY)
    at = "2024-02-29T00:00:00.000000Z"
    records = predictions(columns, [0.5] * ROWS, time=at, as_of=at)
    with Journal.open(app.home / "journal", "w1", durability="process") as journal:
        journal.append_many([msgspec.json.encode(record) for record in records])
    (root / "ecluse.toml").write_text(SETTINGS.format(floor=floor))
    app = open_app(root)
    assert app.monitor("churn").verdict.breached
    return app


def _kinds(rows: list[LedgerRow]) -> list[str]:
    return [str(row.event.evidence.get("command", row.event.kind)) for row in rows]


def test_drift_leads_to_a_better_version_in_production(tmp_path: Path) -> None:
    app = drifted_project(tmp_path / "with a space")
    rows = list(app.react())
    assert _kinds(rows) == [
        "Retrain", "run.finished", "Gate", "version.registered", "version.gated", "Promote", "version.promoted",
    ]  # fmt: skip
    assert app.world.state.rollout("churn").champion == 2
    published = app.world.publisher.current()
    assert published is not None
    assert '"champion":2' in published.payload
    report = app.world.state.report("churn", 2)
    assert report is not None
    [again] = [f for f in report.verdict.findings if f.check == "reproducible"]
    assert again.measured == "same bundle", "trained twice, in two processes, side by side"

    assert list(app.react()) == []
    assert app.waiting() == []
    assert broken_at(app.world.state.ledger()) is None


def test_a_floor_it_misses_refuses_and_the_champion_stays(tmp_path: Path) -> None:
    app = drifted_project(tmp_path / "water", floor=0.999)
    rows = list(app.react())
    assert _kinds(rows)[-1] == "Nothing"
    assert "refused" in rows[-1].event.reason
    assert "roc_auc" in rows[-1].event.reason
    assert app.world.state.rollout("churn").champion == 1


def test_a_training_that_fails_is_told_and_decided(tmp_path: Path) -> None:
    app = drifted_project(tmp_path / "water")
    broken = PROJECT.replace("C=strength", "C=-strength")
    (app.root / "project.py").write_text(broken)
    rows = list(app.react())
    assert _kinds(rows) == ["Retrain", "run.failed", "Wait"]
    assert "attempt 1 of 3 failed" in rows[-1].event.reason
    assert list(app.react()) == [], "the next attempt is not due yet"
    assert app.world.state.rollout("churn").champion == 1


def test_a_pause_ends_a_training_within_seconds_and_resume_goes_on(tmp_path: Path) -> None:
    """M3, the kill switch: what was begun is neither lost nor counted as failed."""
    app = drifted_project(tmp_path / "water")
    (app.root / "project.py").write_text(
        PROJECT.replace("    return make", "    __import__('time').sleep(600)\n    return make")
    )
    code = f"from ecluse.app import open_app; open_app({str(app.root)!r}).react()"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as loop:
        _wait(lambda: "Retrain" in _kinds(list(app.world.state.ledger())))
        time.sleep(1.0)  # into the training
        pause(app.world, reason="audit", actor="ben")
        began = time.monotonic()
        _, said = loop.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert "the loop is paused by ben" in said
    print(f"the loop had stopped {seconds:.2f} s after the switch")
    kinds = [row.event.kind for row in app.world.state.ledger()]
    assert not {"run.failed", "version.registered"} & set(kinds[kinds.index("loop.decided") :])
    assert list(app.react()) == [], "paused"

    (app.root / "project.py").write_text(PROJECT)
    resume(app.world, reason="audited", actor="ben")
    rows = list(app.react())
    assert _kinds(rows)[0] == "run.finished", "the decision stands"
    assert app.world.state.rollout("churn").champion == 2


def _wait(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.05)
