"""A sealed bundle that would end the process that loads it: the worker lives, says so, serves on, and takes the next one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.serving.bad_models import crashing, with_model
from tests.serving.house import House, bundle, environment, ready_house, running


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


def test_a_worker_outlives_a_model_that_crashes(house: House) -> None:
    house.add(2, with_model(crashing()))
    house.add(3, bundle(0.5))
    with running(house) as worker:
        house.publish(2)
        worker.wait("version 2 is refused", lambda health: "2" in health["models"]["churn"]["not_loaded"])
        assert "SIGSEGV" in worker.health()["models"]["churn"]["not_loaded"]["2"]
        status, answer = worker.predict()
        assert (status, answer["version"]) == (200, 1)
        house.publish(3)
        worker.wait("version 3 serves", lambda health: health["models"]["churn"]["serving"] == 3)
        assert worker.process.poll() is None
    with running(house) as worker:  # and a start with it there
        assert worker.predict()[1]["version"] == 3


def test_without_the_trial_it_takes_the_worker_along(house: House) -> None:
    """The defect that turns the test above red."""
    house.add(2, with_model(crashing()))
    house.publish(2)
    script = str(ROOT / "tests" / "serving" / "reckless_worker.py")
    settings: dict[str, Any] = {"port": 0, "poll_ms": 50}
    command = [sys.executable, script, "--home", str(house.home), "--serving", json.dumps(settings)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        assert process.wait(20) == -signal.SIGSEGV
    finally:
        process.kill()
        process.wait()


def test_workers_after_the_first_find_it_tried(house: House) -> None:
    with running(house):
        pass
    notes = list((house.home / "cache" / "trials").glob("*.json"))
    before = [note.stat().st_mtime_ns for note in notes]
    time.sleep(0.05)
    with running(house) as worker:
        assert worker.predict()[0] == 200
    assert [note.stat().st_mtime_ns for note in notes] == before
    assert len(notes) == 1
