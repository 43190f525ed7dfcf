"""L1: a server killed without warning under eight writers loses no prediction it has answered, and gives no id twice."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from tests.acceptance.journal_house import BODIES, Client, pid_of, working
from tests.serving.house import House, ready_house

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import verify
from ecluse.testing.load import Traffic


def kill(house: House, client: Client, after: int, **how: str) -> None:
    """Serve eight writers, and kill the server at some moment after so many answers."""
    with working(house, segment_bytes=100_000, **how) as worker:  # type: ignore[arg-type]
        traffic = Traffic(worker.url, BODIES, connections=8, check=client.note)
        traffic.start()
        assert traffic.wait_for(after)
        os.kill(pid_of(house), signal.SIGKILL)
        worker.process.wait()
        traffic.stop()


def kept(house: House) -> list[str]:
    Journal.open(house.home / "journal", "w1", durability="process").close()  # cuts a torn tail, as the next start does
    return [each["id"] for each in house.records()]


def survive(house: House, kills: int) -> int:
    rng, client = random.Random(3), Client()
    for round_ in range(kills):
        kill(house, client, rng.randrange(50, 400), durability=("process", "power")[round_ % 2])
        ids = kept(house)
        assert set(client.answered) <= set(ids), f"kill {round_}"
        assert len(set(ids)) == len(ids)
    assert verify(house.home / "journal") == []
    return len(client.answered)


def test_kills_lose_no_answered_prediction(tmp_path: Path) -> None:
    assert survive(ready_house(tmp_path), 2) >= 100


@pytest.mark.nightly
def test_twenty_kills_lose_no_answered_prediction(tmp_path: Path) -> None:
    assert survive(ready_house(tmp_path), 20) >= 1_000


def test_a_server_that_buffers_its_journal_is_found_out(tmp_path: Path) -> None:
    house, client = ready_house(tmp_path), Client()
    kill(house, client, 100, defect="buffered")
    assert set(client.answered) - set(kept(house))
