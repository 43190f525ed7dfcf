"""L5: a disk that fails to sync once is never trusted again; one that syncs slowly bounds what waits, and the rest is refused at once."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.acceptance.journal_house import can_trace, pid_of, read_trace, working
from tests.serving.house import Worker, ready_house

from ecluse.adapters.journal_reader import verify

pytestmark = pytest.mark.skipif(not can_trace(), reason="needs strace with --seccomp-bpf")


def fail_once(folder: Path, defect: str = "none") -> tuple[list[str], list[str], Counter[str], int]:
    """Serve until the tenth fdatasync fails: ids answered, ids kept, what callers were told, and syncs tried of that file in all."""
    house, trace = ready_house(folder), folder / "trace"
    told: Counter[str] = Counter()
    answered: list[str] = []
    with working(
        house, trace=trace, defect=defect, durability="power", calls="fdatasync", inject="fdatasync:error=EIO:when=10"
    ) as worker:
        for round_ in range(20):
            status, answer = worker.predict(f"u{round_ % 10}")
            told["ok" if status == 200 else answer["code"]] += 1
            if status == 200:
                answered.append(answer["prediction_id"])
        ready = worker.call("GET", "/ready")
        told["ready" if ready[0] == 200 else f"not ready: {ready[2]['code']}"] += 1
    assert verify(house.home / "journal") == []
    return answered, [each["id"] for each in house.records()], told, len(read_trace(trace))


def test_an_error_of_the_disk_seals_the_journal(tmp_path: Path) -> None:
    answered, kept, told, syncs = fail_once(tmp_path)
    assert told == {"ok": 9, "log_unavailable": 11, "not ready: log_unavailable": 1}
    assert kept == answered
    assert syncs == 10, "a file that failed to sync is not synced again"


def test_a_server_that_syncs_again_is_found_out(tmp_path: Path) -> None:
    answered, _, _, syncs = fail_once(tmp_path, "retrying")
    assert len(answered) == 20
    assert syncs > 10


def resident(pid: int) -> int:
    """Bytes of memory a process holds."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) * 1_024


def press(worker: Worker, seconds: float, connections: int) -> Counter[str]:
    """Outcomes by the hundred from many connections, for a time: what callers were told, in records."""
    told: Counter[str] = Counter()
    lock, stop = threading.Lock(), threading.Event()
    batch = [{"request_id": f"r{each}", "value": True} for each in range(300)]

    def run() -> None:
        while not stop.is_set():
            status, headers, answer = worker.call("POST", "/outcomes", batch)
            with lock:
                told["ok" if status == 202 else answer["code"]] += len(batch)
                told["told when to come back"] += "retry-after" in headers

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for each in threads:
        each.start()
    stop.wait(seconds)
    stop.set()
    for each in threads:
        each.join()
    return told


def slow_disk(folder: Path, seconds: float, defect: str = "none") -> tuple[Counter[str], int, int]:
    """What callers were told while each sync takes 200 ms, records kept, and by how many bytes the server grew meanwhile."""
    house = ready_house(folder)
    slow = "fdatasync:delay_exit=200000"
    with working(
        house, trace=folder / "trace", defect=defect, durability="power", calls="fdatasync", inject=slow
    ) as worker:
        press(worker, 1.0, 4)
        before = resident(pid_of(house))
        told = press(worker, seconds, 24)
        grown = resident(pid_of(house)) - before
        assert worker.predict()[0] == 200
        worker.wait("ready again", lambda health: health["status"] == "ok")
    assert verify(house.home / "journal") == []
    return told, len(house.records()), grown


@pytest.mark.parametrize("seconds", [2.5, pytest.param(60, marks=pytest.mark.nightly)])
def test_a_slow_disk_refuses_what_it_cannot_keep(tmp_path: Path, seconds: float) -> None:
    told, kept, grown = slow_disk(tmp_path, seconds)
    assert set(told) == {"ok", "log_unavailable", "told when to come back"}
    assert told["ok"] > 1_000
    assert told["told when to come back"] * 300 == told["log_unavailable"]
    assert kept >= told["ok"]
    assert grown < 50 * 1024 * 1024


def test_a_queue_without_bound_is_found_out(tmp_path: Path) -> None:
    told, _, _ = slow_disk(tmp_path, 1.0, "unbounded")
    assert told["log_unavailable"] == 0
