"""The loop's commands at the terminal: ask, stop, go on, simulate, stay up until told to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.terminal import ecluse, small_project


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that knows its declaration and has no version yet; nothing that is asked leads to a training."""
    folder = small_project(tmp_path_factory.mktemp("loop") / "streaming")
    (folder / "ecluse.toml").write_text((folder / "ecluse.toml").read_text() + '\n[triggers]\non = ["schedule"]\n')
    said = ecluse("ingest", "--from", folder / "data/2024-01", "--as-of", "2024-01-31", project=folder)
    assert said.code == 0, said
    return folder


def test_who_asks_is_answered_with_a_reason(house: Path) -> None:
    asked = ecluse("loop", "trigger", "--why", "new prices", "--json", project=house)
    assert (asked.code, asked.json["event"]["kind"]) == (0, "trigger.raised")
    rows = ecluse("loop", "run", "--json", project=house).json
    assert [row["event"]["kind"] for row in rows] == ["trigger.suppressed"]
    shown = ecluse("loop", "status", project=house)
    assert "held back: off" in shown.out
    assert "0 events wait" in shown.out


def test_a_paused_loop_says_so_and_does_nothing(house: Path) -> None:
    assert ecluse("loop", "pause", "--why", "audit", project=house).code == 0
    assert ecluse("loop", "pause", "--why", "again", project=house).code == 5
    ecluse("loop", "trigger", "--why", "meanwhile", project=house)
    ran = ecluse("loop", "run", project=house)
    assert ran.code == 0
    assert ran.out.startswith("the loop is paused by ")
    assert "audit" in ecluse("loop", "status", project=house).out
    resumed = ecluse("loop", "resume", "--why", "audited", project=house)
    assert "1 events wait" in resumed.out
    assert ecluse("loop", "resume", "--why", "again", project=house).code == 5


def test_a_simulation_tells_and_changes_nothing(house: Path) -> None:
    span = ("--from", "2024-01-01", "--to", "2024-01-05")
    before = ecluse("history", "--json", project=house).json
    told = ecluse("loop", "simulate", *span, "--faults", "storm,crash", "--seed", 3, "--json", project=house)
    assert told.code == 0
    assert told.json["assumed"] == ["churn"]
    assert told.json["counts"]["held back: off"] > 100
    assert "held back: off" in ecluse("loop", "simulate", *span, "--faults", "storm", project=house).out
    assert ecluse("loop", "simulate", *span, "--faults", "thunder", project=house).code == 2
    assert ecluse("history", "--json", project=house).json == before


def test_it_stays_up_until_told_to_end(house: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ecluse", "loop", "run", "--follow", "--project", str(house)]
    log = tmp_path / "log"
    with log.open("w") as err, subprocess.Popen(command, stderr=err, stdout=subprocess.DEVNULL) as loop:
        end = time.monotonic() + 60
        while "following" not in log.read_text() and time.monotonic() < end and loop.poll() is None:
            time.sleep(0.05)
        ecluse("loop", "trigger", "--why", "while it is up", project=house)
        while "Suppress" not in log.read_text() and time.monotonic() < end and loop.poll() is None:
            time.sleep(0.05)
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(30) == 0, log.read_text()
    assert "Suppress" in log.read_text()
