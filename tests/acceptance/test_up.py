"""Nobody types: a month dropped into a folder of a running project leads to a new version that answers its callers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.acceptance.circle import MODEL, churn_project
from tests.acceptance.standing import Standing, drop, standing
from tests.acceptance.test_reaction import PROJECT, ROWS, SETTINGS, month

from ecluse.core.event import broken_at
from ecluse.demo.story import DRIFTED, STABLE
from ecluse.testing.load import Traffic

WATER = (
    SETTINGS.format(floor=0.7)
    + """
[monitoring]
last = 600
every = "1s"
[sources.months]
drops = "incoming/*"
as_of = "month"
every = "1s"
settle = "1s"
"""
)


@contextmanager
def _callers(up: Standing, keys: list[str], rate: float) -> Iterator[tuple[Traffic, dict[int, float]]]:
    """Callers that never stop; the second (Unix time) at which each version first answered one of them."""
    seen: dict[int, float] = {}

    def note(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        seen.setdefault(answer["version"], time.time())

    with Traffic(up.url, [{"user_id": key} for key in keys], connections=2, rate=rate, check=note) as traffic:
        yield traffic, seen


def _water(root: Path) -> None:
    root.mkdir()
    (root / "project.py").write_text(PROJECT)
    (root / "ecluse.toml").write_text(WATER)
    (root / "data").mkdir()
    month(root / "data" / "2024-01", flipped=False, seed=1)
    month(root / "data" / "2024-02", flipped=True, seed=2)


def _story(up: Standing, after: int) -> list[str]:
    """The turning points of the way from a drop to a release, each once, in order."""
    turns = ("source.taken", "drift.detected", "run.finished", "version.gated", "version.promoted")
    rows = [row for row in up.rows(*turns) if row.sequence > after]
    return list(dict.fromkeys(row.event.kind for row in rows))


def test_a_drifted_month_is_dropped_and_a_better_version_answers(tmp_path: Path) -> None:
    root = tmp_path / "water"
    _water(root)
    with standing(root, {}) as up:
        drop(root / "incoming", root / "data" / "2024-01")
        up.wait("January", lambda: up.rows("source.taken"))
        up.app.train(MODEL)  # the first; its gates and its release follow by policy
        up.wait("the first release", lambda: up.serving(MODEL) == 1)
        with _callers(up, [f"u{i}" for i in range(ROWS)], 300.0) as (traffic, seen):
            up.wait("a calm window", lambda: up.rows("monitor.judged") and traffic.counts.sent > 1_000)
            assert up.rows("drift.detected") == []
            before = up.rows()[-1].sequence
            drop(root / "incoming", root / "data" / "2024-02")
            up.wait("version 2", lambda: 2 in seen)
            counts = traffic.stop()
        assert (counts.failed, set(counts.versions)) == (0, {1, 2})
        assert _story(up, before) == [
            "source.taken", "drift.detected", "run.finished", "version.gated", "version.promoted",
        ]  # fmt: skip
        assert len(up.rows("source.taken")) == 2
        assert broken_at(up.rows()) is None

        second = _ecluse(root, "up", "--port", "0")
        assert (second.returncode, "running already" in second.stderr) == (5, True)
        third = _ecluse(root, "loop", "run")
        assert (third.returncode, "another process runs the loop" in third.stderr) == (5, True)

        running = up.children()
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(30) == 0
    events = [line["event"] for line in up.said()]
    assert events.count("stopped") + events.count("left in the middle") >= 2, "the server and the loop"
    assert events[-1] == "down"
    assert [command for pid, command in running.items() if Path(f"/proc/{pid}").exists()] == []


def test_a_killed_loop_comes_back_and_takes_each_drop_once(tmp_path: Path) -> None:
    root = tmp_path / "water"
    _water(root)
    shutil.copytree(root / "data", root / "incoming")
    with standing(root, {}) as up:
        up.wait("the loop", lambda: any("ecluse.resident" in command for command in up.children().values()))
        up.wait("a first fact", up.rows)
        for pid, command in up.children().items():
            if "ecluse.resident" in command and "ecluse.up" not in command:
                os.kill(pid, signal.SIGKILL)
        up.wait("both months", lambda: len(up.rows("source.taken")) == 2)
        time.sleep(1.5)
        assert len(up.rows("source.taken")) == 2
        assert len(up.rows("data.ingested")) == 4
        assert "part died" in up.log.read_text()


@pytest.mark.nightly
def test_the_churn_template_runs_by_itself(tmp_path: Path) -> None:
    root = tmp_path / "churn"
    churn_project(root, subscribers=7_000, months=len(STABLE) + len(DRIFTED))
    quick = {"ECLUSE_MONITORING__EVERY": "1s", "ECLUSE_MLFLOW__ENABLED": "false"}
    with standing(root, quick) as up:
        for name in STABLE:
            drop(root / "incoming", root / "data" / name)
        up.wait("five months", lambda: len(up.rows("source.taken")) == len(STABLE), 120)
        up.app.train(MODEL)
        up.wait("the first release", lambda: up.serving(MODEL) == 1)
        lasting = [
            set(pl.read_csv(root / "data" / name / "subscriptions.csv")["user_id"]) for name in ("2024-05", "2024-07")
        ]
        with _callers(up, sorted(lasting[0] & lasting[1]), 250.0) as (traffic, seen):
            for name in DRIFTED[:2]:
                drop(root / "incoming", root / "data" / name)
            up.wait("a better version", lambda: max(seen, default=1) > 1, 180)  # a first one may be refused: no gain
            counts = traffic.stop()
        assert counts.failed == 0, counts.codes


def _ecluse(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ecluse", *arguments, "--project", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
