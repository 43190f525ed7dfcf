"""L2: under "power" no answer leaves before the fdatasync that covers its record, as the system calls tell; nor at a rollover."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.acceptance.journal_house import (
    BODIES,
    SystemCall,
    answers_before_sync,
    can_trace,
    read_trace,
    rollovers,
    working,
)
from tests.serving.house import ready_house

from ecluse.adapters.journal_reader import verify
from ecluse.testing.load import Traffic

pytestmark = pytest.mark.skipif(not can_trace(), reason="needs strace with --seccomp-bpf")


def traced(folder: Path, answers: int, connections: int = 16, defect: str = "none") -> list[SystemCall]:
    house, trace = ready_house(folder), folder / "trace"
    with (
        working(house, defect=defect, segment_bytes=60_000, trace=trace, durability="power") as worker,
        Traffic(worker.url, BODIES, connections=connections) as traffic,
    ):
        assert traffic.wait_for(answers, seconds=120)
    assert traffic.counts.codes["ok"] >= answers
    assert verify(house.home / "journal") == []
    return read_trace(trace)


def check(calls: list[SystemCall], answers: int) -> None:
    seen, early = answers_before_sync(calls)
    assert seen >= answers
    assert early == 0
    assert len(rolled := rollovers(calls)) >= answers // 100
    assert {tuple(each) for each in rolled} == {("fsync", "fsync", "write frame")}


def test_no_answer_precedes_its_sync(tmp_path: Path) -> None:
    check(traced(tmp_path, 300), 300)


@pytest.mark.nightly
def test_of_two_thousand_answers_none_precedes_its_sync(tmp_path: Path) -> None:
    check(traced(tmp_path, 2_000, connections=64), 2_000)


@pytest.mark.parametrize("defect", ["unsynced", "early"])
def test_answers_that_do_not_wait_are_found_out(tmp_path: Path, defect: str) -> None:
    seen, early = answers_before_sync(traced(tmp_path, 60, defect=defect))
    assert seen >= 60
    assert early > seen // 2
