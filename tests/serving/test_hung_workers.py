"""A worker that hangs is replaced by its supervisor, and only one that does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from tests.serving.crew import BODIES, BOTH, events, fleet, pids, ready_workers, until
from tests.serving.house import House, ready_house

from ecluse.adapters.journal_reader import verify
from ecluse.testing.load import Traffic


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


def test_a_worker_that_hangs_is_replaced(house: House) -> None:
    with fleet(house, patience=1.0) as workers:
        hung = pids(workers)["w1"]
        os.kill(hung, signal.SIGSTOP)
        with Traffic(workers.url, BODIES, connections=4) as traffic:
            until("another has come", lambda: pids(workers)["w1"] != hung, 10)
            until("both are ready", lambda: set(ready_workers(workers)) == set(BOTH), 10)
            assert traffic.wait_for(traffic.counts.sent + 50)
        assert traffic.counts.failed == 0, traffic.counts.codes
        assert [line["worker"] for line in events(workers, "worker hung")] == ["w1"]
        assert [line["code"] for line in events(workers, "worker died")] == [-signal.SIGKILL]
    assert verify(house.home / "journal") == []


def test_a_supervisor_that_does_not_listen_keeps_it(house: House) -> None:
    """The defect that turns the test above red: only the dead are replaced."""
    with fleet(house, patience=float("inf")) as workers:
        hung = pids(workers)["w1"]
        os.kill(hung, signal.SIGSTOP)
        time.sleep(2.5)
        assert pids(workers)["w1"] == hung
        assert events(workers, "worker died") == []
        os.kill(hung, signal.SIGKILL)


def test_a_machine_that_stood_still_costs_nobody_its_post(house: House) -> None:
    with fleet(house, patience=1.0) as workers:
        everybody = [workers.process.pid, *pids(workers).values()]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everybody:
                os.kill(pid, number)
            time.sleep(2)
        assert events(workers, "worker hung") == events(workers, "worker died") == []
        assert workers.predict()[0] == 200


def test_a_disk_that_stands_still_is_no_hung_worker(house: House) -> None:
    """What a worker writes for the others goes nowhere: it answers on, so it stays."""
    with fleet(house, patience=1.0) as workers:
        written = house.home / "cache" / "w1" / "metrics.tmp"

        def block() -> bool:
            os.mkfifo(written)  # whoever opens it to write waits for a reader
            return True

        until("its file is a pipe", block)
        time.sleep(3.5)
        assert events(workers, "worker hung") == []
        assert set(ready_workers(workers)) == set(BOTH)
        reader = os.open(written, os.O_RDONLY)
        os.read(reader, 1 << 20)
        os.close(reader)
