"""L4: a full disk, a quota, a short write: nothing is acknowledged that is not kept, and the server goes on once there is room."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.journal_house import BODIES, can_mount, working
from tests.serving.house import House, Worker, ready_house

from ecluse.adapters.journal_reader import verify

SCRIPT = Path(__file__).parents[1] / "adapters" / "journal_process.py"


def short_writes(root: Path, mode: str) -> dict[str, list[str]]:
    """For every k, a write of which the disk takes k bytes only: {"acked", "kept", "torn"}."""
    done = subprocess.run([sys.executable, SCRIPT, "short", root, mode], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_a_write_cut_short_at_every_byte_is_undone_and_refused(tmp_path: Path) -> None:
    found = short_writes(tmp_path / "journal", "process")
    assert found["acked"] == found["kept"]
    assert len(found["refused"]) > 150
    assert found["torn"] == []


def test_a_writer_that_ignores_the_count_is_found_out(tmp_path: Path) -> None:
    found = short_writes(tmp_path / "journal", "careless")
    assert set(found["acked"]) - set(found["kept"])


@contextlib.contextmanager
def small_disk(house: House, size: str) -> Iterator[Path]:
    journal = house.home / "journal"
    journal.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", journal], check=True)
    try:
        yield journal
    finally:
        subprocess.run(["umount", "-l", journal], check=True)


def fill_up(worker: Worker) -> list[str]:
    """Predict until the server says no for want of disk: the ids answered."""
    answered: list[str] = []
    for round_ in range(1_000):
        status, headers, answer = worker.call("POST", "/predict", BODIES[round_ % 10])
        if status != 200:
            assert (status, answer["code"]) == (503, "log_unavailable")
            assert int(headers["retry-after"]) >= 1
            return answered
        answered.append(answer["prediction_id"])
    return answered


needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root to mount a small disk")


@needs_mount
@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk_answers_503_and_needs_no_restart(tmp_path: Path, durability: str) -> None:
    house = ready_house(tmp_path)
    with small_disk(house, "96k") as disk, working(house, durability=durability, segment_bytes=20_000) as worker:
        answered = fill_up(worker)
        assert 20 < len(answered) < 1_000
        status, _, answer = worker.call("GET", "/ready")
        assert (status, answer["code"]) == (503, "log_unavailable")
        outcomes = [{"request_id": f"r{each}", "value": True} for each in range(300)]
        assert worker.call("POST", "/outcomes", outcomes)[2]["code"] == "log_unavailable"
        assert [each["id"] for each in house.records() if each["kind"] == "prediction"] == answered
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        worker.wait("ready again", lambda health: health["status"] == "ok", 5)
        status, answer = worker.predict()
        assert status == 200
        assert [each["id"] for each in house.records()] == [*answered, answer["prediction_id"]]
        assert verify(disk) == []


@needs_mount
def test_a_server_that_ignores_a_full_disk_is_found_out(tmp_path: Path) -> None:
    house = ready_house(tmp_path)
    with small_disk(house, "64k"), working(house, defect="careless") as worker:
        answered = fill_up(worker)
        assert set(answered) - {each["id"] for each in house.records()}
