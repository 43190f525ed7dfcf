"""Under ``ecluse up`` nobody types: a burning budget asks for a retraining, and an alias moved in MLflow is told and put back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.acceptance.standing import standing
from tests.acceptance.test_reaction import JANUARY, PROJECT, SETTINGS, month
from tests.adapters.tracked import address

from ecluse.adapters.mlflow_names import names_of
from ecluse.app import App, open_app
from ecluse.testing.load import Traffic

MODEL = "churn"
MORE = """
[monitoring]
every = "1h"
[loop]
warm = false
"""


def water(root: Path, more: str) -> App:
    root.mkdir()
    (root / "project.py").write_text(PROJECT)
    (root / "ecluse.toml").write_text(SETTINGS.format(floor=0.7) + MORE + more)
    month(root / "data", flipped=False, seed=1)
    app = open_app(root)
    app.ingest(root / "data", JANUARY)
    app.materialize()
    trained = app.train(MODEL).run
    assert trained is not None
    app.register(trained.id)
    app.promote(MODEL, 1, reason="first", override="drill")
    return app


def test_a_burning_budget_leads_to_one_retraining(tmp_path: Path) -> None:
    """An objective no server meets: a fifth of a millisecond."""
    app = water(tmp_path / "water", '[slo]\nlatency_ms = 0.2\n[triggers]\nobjectives = ["latency"]\ndebounce = "1s"\n')
    bodies = [{"user_id": f"u{i}"} for i in range(50)]
    with standing(app.root, {}) as up:
        up.wait("version 1 serves", lambda: up.serving(MODEL) == 1)
        with Traffic(up.url, bodies, connections=2, rate=100) as traffic:
            up.wait("the trigger", lambda: up.rows("trigger.raised"))
            traffic.stop()
        up.wait("what came of it", lambda: up.rows("loop.decided", "trigger.suppressed"))
    raised, first = up.rows("trigger.raised")[0].event, up.rows("loop.decided", "trigger.suppressed")[0].event
    assert raised.evidence["key"].startswith("slo/latency/1/")
    assert "its error budget burns" in raised.reason
    assert (first.kind, first.evidence["why"], first.evidence["trigger"]) == ("trigger.suppressed", "debounced", "slo")
    assert len({row.event.evidence["key"] for row in up.rows("trigger.raised")}) == len(up.rows("trigger.raised"))


@pytest.mark.nightly
def test_an_alias_moved_in_mlflow_is_told_within_ten_seconds_and_put_back(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    app = water(tmp_path / "water", "")
    file = app.root / "ecluse.toml"
    file.write_text(file.read_text().replace("enabled = false", "enabled = true"))
    app = open_app(app.root)
    named = names_of(app.home, app.settings.mlflow)
    assert named is not None
    with standing(app.root, {}) as up:
        up.wait("the mirror", lambda: named(MODEL) == 1 and app.world.state.meta(f"mirror.shown.{MODEL}"), 120)
        stranger = MlflowClient(tracking_uri=address(app.home), registry_uri=address(app.home))
        made = stranger.create_model_version(MODEL, source=str(app.home), await_creation_for=0)
        for times in (1, 2):
            stranger.set_registered_model_alias(MODEL, "production", made.version)
            began = time.monotonic()
            up.wait("it is told", lambda: len(up.rows("mirror.altered")) == times)  # noqa: B023
            seconds = time.monotonic() - began
            print(f"R4: told {seconds:.1f} s after the alias was moved")
            assert seconds <= 10
            assert up.serving(MODEL) == 1
            up.wait("it is put back", lambda: named(MODEL) == 1, 120)
            up.wait("and that is seen", lambda: not app.world.state.meta(f"mirror.altered.{MODEL}"))
        assert [row.event.evidence["named"] for row in up.rows("mirror.altered")] == [0, 0]
