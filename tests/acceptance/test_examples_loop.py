"""The examples' whole loop with real parts: a text class and a number, released, served over HTTP, watched, retrained by event, rolled back."""

import csv
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ecluse.app import App, open_app
from ecluse.core.errors import EcluseError
from ecluse.demo.server import Server, free_port
from ecluse.demo.story import month_end
from ecluse.testing.load import Traffic

STABLE, DRIFTED = ("2024-01", "2024-02", "2024-03"), ("2024-04", "2024-05", "2024-06")
WATCHED = 600  # as in the examples' settings
FAULTS = {"none", "bearing", "electrical"}


@dataclass(frozen=True)
class Example:
    """A folder of examples/, its model, the file of the view that grows old, after how many days, and the keys' columns."""

    folder: str
    model: str
    callers: str
    ttl: int
    keys: Mapping[str, type]

    def heard(self, root: Path, month: str) -> set[tuple[Any, ...]]:
        """The entities with a row in the month's last ``ttl`` days: the others are refused as too long unheard of."""
        since = month_end(month) - timedelta(days=self.ttl)
        with (root / "data" / month / self.callers).open(newline="", encoding="utf-8") as rows:
            recent = (row for row in csv.DictReader(rows) if datetime.fromisoformat(row["at"]) > since)
            return {tuple(kind(row[name]) for name, kind in self.keys.items()) for row in recent}

    def bodies(self, keys: set[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """One request body per entity."""
        return [dict(zip(self.keys, key, strict=True)) for key in sorted(keys)]


EXAMPLES = {
    "multiclass": Example("multiclass", "faults", "readings.csv", 20, {"machine_id": int}),
    "regression": Example("regression", "demand", "sales.csv", 14, {"shop": str, "product": str}),
}


def _open(example: Example, root: Path, folder: Path) -> App:
    left_out = shutil.ignore_patterns(".ecluse", "data", "__pycache__")
    shutil.copytree(root / "examples" / example.folder, folder, ignore=left_out)
    generate = [sys.executable, "generate.py", "--months", "6", "--drift-from", DRIFTED[0]]
    subprocess.run(generate, cwd=folder, check=True, capture_output=True, timeout=60)
    return open_app(folder, profile="dev")


def _arrive(app: App, month: str) -> None:
    assert app.ingest(app.root / "data" / month, month_end(month)).passed
    app.materialize()


def _release_first(app: App, model: str) -> None:
    trained = app.train(model)
    assert trained.run is not None
    version = app.register(trained.run.id, reason="the first")
    report = app.gate(model, version.number)
    assert report.verdict.passed, report.verdict.failed
    assert app.promote(model, version.number, reason="the first").champion == 1


def _callers(server: Server, bodies: list[dict[str, Any]]) -> Traffic:
    return Traffic(server.url, bodies, connections=2, rate=400)


@contextmanager
def _served(app: App, bodies: list[dict[str, Any]]) -> Iterator[tuple[Server, Traffic]]:
    server = Server.start(app, free_port())
    try:
        with _callers(server, bodies) as traffic:
            yield server, traffic
    finally:
        assert server.stop() == 0


def _check_answer(example: Example, body: Mapping[str, Any], answer: Mapping[str, Any], version: int) -> None:
    assert (answer["model"], answer["version"]) == (example.model, version)
    assert {name: answer[name] for name in body} == dict(body)
    if example.folder == "multiclass":
        shares = answer["probabilities"]
        assert set(shares) == FAULTS
        assert math.isclose(sum(shares.values()), 1, abs_tol=1e-6)
        assert answer["decision"] == max(shares, key=shares.__getitem__)
    else:
        assert isinstance(answer["value"], int | float)
        assert answer["value"] >= 0  # a forest over units sold
    assert ("probabilities" in answer) != ("value" in answer)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_loop_goes_round(name: str, root: Path, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    app = _open(example, root, tmp_path / name)
    for month in STABLE:
        _arrive(app, month)
    _release_first(app, example.model)
    served_months = (STABLE[-1], *DRIFTED)
    bodies = example.bodies(set.intersection(*(example.heard(app.root, month) for month in served_months)))
    silent = example.bodies(example.heard(app.root, STABLE[-1]) - example.heard(app.root, DRIFTED[-1]))
    with _served(app, bodies) as (server, traffic):
        _check_answer(example, bodies[0], server.ask(bodies[0]), 1)
        assert traffic.wait_for(WATCHED)
        calm = app.monitor(example.model)
        assert not calm.verdict.breached, calm.verdict.failed

        before = (
            traffic.stop()
        )  # a month passes at once here: until it is materialised, features of a shorter ttl are stale
        for month in DRIFTED:
            _arrive(app, month)
        traffic = _callers(server, bodies)
        traffic.start()
        assert traffic.wait_for(WATCHED + len(bodies) // 10)
        report = app.monitor(example.model)
        assert report.verdict.breached, "\n".join(
            f"{f.outcome.value} {f.check} {f.subject} {f.why}" for f in report.verdict.findings
        )
        assert report.drifted

        assert bool(silent) == (name == "multiclass")  # eight readings a month: somebody is unheard of for 20 days
        for body in silent:
            with pytest.raises(EcluseError, match="sensors"):  # refused by name, never guessed
                server.ask(body)

        kinds = [row.event.kind for row in app.react()]
        assert kinds.index("run.finished") < kinds.index("version.gated") < kinds.index("version.promoted"), kinds
        assert app.world.state.rollout(example.model).champion == 2
        server.wait_for_version(2)
        _check_answer(example, bodies[-1], server.ask(bodies[-1]), 2)

        assert app.rollback(example.model, reason="a drill").champion == 1
        server.wait_for_version(1)
        _check_answer(example, bodies[0], server.ask(bodies[0]), 1)
        counts = traffic.stop()
    assert before.failed + counts.failed == 0, before.codes + counts.codes
    assert set(counts.versions) == {1, 2}
    assert app.waiting() == [] or {row.event.kind for row in app.waiting()} == {"version.rolled_back"}
