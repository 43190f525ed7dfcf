"""V10, worse labels: under ``ecluse up`` callers tell what came true, nobody types, and a fresh release that does worse is taken back."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.standing import Standing, standing
from tests.acceptance.test_reaction import FEBRUARY, JANUARY, PROJECT, ROWS, SETTINGS, month

from ecluse.app import App, open_app
from ecluse.client import Client
from ecluse.core.event import broken_at
from ecluse.testing.load import Traffic

MODEL, RATE = "churn", 12.0
MOST, WITHIN = 500, 60.0
MORE = """
[monitoring]
every = "1h"              # windows are not what this is about
settle = "{settle}"
min_outcomes = 60
performance = {{ roc_auc = 0.8 }}  # the good have 0.90; the bad one 0.675 by the luck of its shuffle, which is no proof against 0.7
[rollback]
on = [{on}]
[loop]
warm = false
"""
GOOD, BAD = 2, 3


def water(root: Path, *, settle: str = "1s", on: str = '"performance"') -> App:
    """Version 1 in Production on February's features; 2 is as good, 3 was trained on labels that are nobody's."""
    root.mkdir()
    (root / "project.py").write_text(PROJECT)
    people = SETTINGS.format(floor=0.7).replace('promotion = "automatic"', 'promotion = "manual"')
    (root / "ecluse.toml").write_text(people + MORE.format(settle=settle, on=on))
    for name, seed in (("data0", 1), ("data1", 2)):
        month(root / name, flipped=False, seed=seed)
    app = open_app(root)
    app.ingest(root / "data0", JANUARY)
    kinds: list[dict[str, Any]] = [{}, {"parameters": {"strength": 0.5}}, {"permute_labels": True}]
    for made in kinds:
        trained = app.train(MODEL, **made)
        assert trained.run is not None
        app.register(trained.run.id)
    app.promote(MODEL, 1, reason="first", override="drill")
    app.ingest(root / "data1", FEBRUARY, only=("use",))  # who leaves is told by the callers
    app.materialize()
    return app


@dataclass
class Callers:
    """Callers at a steady rate, each of whom tells what came true a moment later."""

    up: Standing
    truths: Mapping[str, bool]
    waiting: list[dict[str, Any]] = field(default_factory=list)
    told: int = 0

    def note(self, body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self.waiting.append({"request_id": answer["request_id"], "value": self.truths[body["user_id"]]})

    def tell(self, stop: threading.Event) -> None:
        with Client(self.up.url) as client:
            while not stop.wait(0.2):
                batch, self.waiting = self.waiting, []
                if batch:
                    self.told += client.outcomes(batch)


@contextmanager
def callers(up: Standing) -> Iterator[tuple[Callers, Traffic]]:
    with (up.app.root / "data1" / "labels.csv").open() as file:
        truths = {row["user_id"]: row["left"] == "true" for row in csv.DictReader(file)}
    made, stop = Callers(up, truths), threading.Event()
    bodies = [{"user_id": f"u{i}"} for i in range(ROWS)]
    with Traffic(up.url, bodies, connections=2, rate=RATE, check=made.note) as traffic:
        thread = threading.Thread(target=made.tell, args=(stop,))
        thread.start()
        try:
            yield made, traffic
        finally:
            stop.set()
            thread.join()


def settled(up: Standing) -> int:
    """Truths used, as told last."""
    rows = up.rows("outcomes.settled")
    return int(rows[-1].event.evidence["counts"]["used"]) if rows else 0


@pytest.mark.nightly
def test_a_fresh_release_that_does_worse_is_taken_back(tmp_path: Path) -> None:
    app = water(tmp_path / "water")
    with standing(app.root, {}) as up:
        up.wait("version 1 serves", lambda: up.serving(MODEL) == 1)
        with callers(up) as (_, traffic):
            app.promote(MODEL, GOOD, reason="as good", override="drill")
            up.wait("it serves", lambda: traffic.counts.versions[GOOD] > 70)
            for more in (70, 20):
                before = settled(up)
                up.wait("more truths are settled", lambda: settled(up) > before + more)  # noqa: B023
            assert not up.rows("incident.opened", "drift.detected"), "the control arm: as good stays"
            begun = time.monotonic()
            app.promote(MODEL, BAD, reason="it passed", override="drill")
            up.wait("it is taken back", lambda: app.world.state.rollout(MODEL).champion == GOOD)
            seconds = time.monotonic() - begun
            up.wait("workers follow", lambda: up.serving(MODEL) == GOOD)
            counts = traffic.stop()
        [incident], [back] = up.rows("incident.opened"), up.rows("version.rolled_back")
        met = counts.versions[BAD]
        print(f"V10 worse labels: taken back after {seconds:.1f} s, {met} requests met it; {incident.event.reason}")
        assert seconds <= WITHIN
        assert met <= MOST
        assert counts.failed == 0, counts.codes
        assert (incident.event.version, back.event.version) == (BAD, GOOD)
        assert [each["check"] for each in incident.event.evidence["findings"]] == ["performance"]
        assert {row.event.version for row in up.rows("drift.detected")} == {BAD}
        assert broken_at(up.rows()) is None


@pytest.mark.nightly
def test_realised_performance_asks_for_a_retraining(tmp_path: Path) -> None:
    """No rollback is declared: the trigger acts, and what it trains on January's labels is version 1's twin."""
    app = water(tmp_path / "water", on="")
    app.promote(MODEL, BAD, reason="a drill", override="drill")
    with standing(app.root, {}) as up, callers(up):
        up.wait(
            "the decision", lambda: [r for r in up.rows("loop.decided") if r.event.evidence["command"] == "Retrain"]
        )
        decided = next(row.event for row in up.rows("loop.decided") if row.event.evidence["command"] == "Retrain")
        assert decided.version == BAD
        assert "roc_auc" in decided.reason
        up.wait("the training", lambda: [r for r in up.rows("run.finished") if r.event.actor.startswith("loop")])
    assert app.world.state.rollout(MODEL).champion == BAD, "promotion is a person's here"


@pytest.mark.nightly
def test_without_settling_the_harm_goes_on(tmp_path: Path) -> None:
    """The planted defect: truths arrive, and nobody looks."""
    app = water(tmp_path / "water", settle="1h")
    with standing(app.root, {}) as up, callers(up) as (made, traffic):
        app.promote(MODEL, BAD, reason="it passed", override="drill")
        up.wait("it serves", lambda: traffic.counts.versions[BAD] > 200)
        assert made.told > 150
        assert app.world.state.rollout(MODEL).champion == BAD
