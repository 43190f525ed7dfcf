"""Under ``ecluse up`` nobody types: a burning budget asks for a retraining."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.standing import standing
from tests.acceptance.test_reaction import JANUARY, PROJECT, SETTINGS, month

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

