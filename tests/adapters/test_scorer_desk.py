"""The desk before a scorer process: who is scored together, who is not scored at all, and what becomes of those who wait when it dies."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecluse.adapters import scorer_desk as module
from ecluse.adapters.scorer_desk import MOST_ROWS, Desk, Matrix
from ecluse.core.errors import Unavailable


def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class Scoring:
    """Doubles what it is given, once the gate is open; remembers how many rows each call had."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.problem: Exception | None = None

    def __call__(self, process: subprocess.Popen[bytes], matrix: Matrix) -> Matrix:
        self.sizes.append(len(matrix))
        assert self.gate.wait(20)
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem
        return matrix * 2


@pytest.fixture
def scoring() -> Scoring:
    return Scoring()


def open_desk(scoring: Scoring, start: Callable[[], subprocess.Popen[bytes]] = child) -> Desk:
    return Desk("the scorer", start, scoring)


def rows(n: int, first: int = 0) -> Matrix:
    return np.arange(first, first + n, dtype=np.float64).reshape(n, 1)


def until(holds: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def busy(desk: Desk, scoring: Scoring) -> Any:
    """A call under way, so that what comes next gathers."""
    first = desk.ask(rows(1), patient=False)
    until(lambda: scoring.sizes)
    return first


def test_what_waits_is_scored_together_and_each_gets_its_own(scoring: Scoring) -> None:
    desk = open_desk(scoring)
    first = busy(desk, scoring)
    others = [desk.ask(rows(1, i), patient=False) for i in range(300)]
    scoring.gate.set()
    assert [each.result(10).item() for each in others] == [2.0 * i for i in range(300)]
    assert first.result(10).item() == 0
    assert scoring.sizes == [1, MOST_ROWS, 300 - MOST_ROWS]
    desk.close()


def test_who_does_not_wait_any_more_is_not_scored(scoring: Scoring) -> None:
    desk = open_desk(scoring)
    busy(desk, scoring)
    others = [desk.ask(rows(1, i), patient=False) for i in range(10)]
    assert all(each.cancel() for each in others[:7])
    scoring.gate.set()
    assert [each.result(10).item() for each in others[7:]] == [14, 16, 18]
    assert scoring.sizes == [1, 3]
    desk.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=8))
def test_sizes_are_bounded_order_is_kept_and_nothing_is_mixed(sizes: Sequence[int]) -> None:
    scoring = Scoring()
    desk = open_desk(scoring)
    busy(desk, scoring)
    asked = [rows(n, 1_000 * i) for i, n in enumerate(sizes)]
    answers = [desk.ask(each, patient=False) for each in asked]
    scoring.gate.set()
    for matrix, answer in zip(asked, answers, strict=True):
        assert np.array_equal(answer.result(10), matrix * 2)
    assert sum(scoring.sizes) == 1 + sum(sizes)
    assert all(size <= MOST_ROWS or size in sizes for size in scoring.sizes)
    desk.close()


def test_a_call_that_fails_fails_those_in_it_and_starts_the_process_anew(scoring: Scoring) -> None:
    desk = open_desk(scoring)
    before = desk.pid
    first = busy(desk, scoring)
    impatient, patient = desk.ask(rows(2), patient=False), desk.ask(rows(MOST_ROWS), patient=True)
    scoring.problem = EOFError()
    scoring.gate.set()
    for each in (first, impatient):
        with pytest.raises(Unavailable):
            each.result(10)
    assert np.array_equal(patient.result(10), rows(MOST_ROWS) * 2)
    assert desk.pid not in (None, before)
    desk.close()


def test_one_that_hangs_takes_no_more(scoring: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.05)
    desk = open_desk(scoring)
    busy(desk, scoring)
    time.sleep(0.1)
    with pytest.raises(Unavailable):
        desk.ask(rows(1), patient=False)
    scoring.gate.set()
    until(lambda: desk._late_at == float("inf"))
    assert desk.ask(rows(1, 4), patient=False).result(10).item() == 8
    desk.close()


def test_it_is_noticed_dead_without_being_asked_and_pauses_grow(scoring: Scoring) -> None:
    scoring.gate.set()
    starts: list[float] = []

    def start() -> subprocess.Popen[bytes]:
        starts.append(time.monotonic())
        if 1 < len(starts) < 5:
            raise Unavailable("it does not start")
        return child()

    desk = open_desk(scoring, start)
    process = desk._child
    assert process is not None
    process.kill()
    until(lambda: len(starts) == 2)
    with pytest.raises(Unavailable):
        desk.ask(rows(1), patient=False)
    with pytest.raises(Unavailable, match="does not start"):
        desk.ask(rows(1), patient=True).result(10)
    until(lambda: desk.pid)
    pauses = [after - before for before, after in pairwise(starts[1:])]
    assert len(starts) == 5
    assert all(found >= least for found, least in zip(pauses, (0.2, 0.4, 0.8), strict=True))
    assert desk.ask(rows(1, 3), patient=False).result(10).item() == 6
    desk.close()


def test_closing_ends_the_process_and_refuses_who_waits(scoring: Scoring) -> None:
    desk = open_desk(scoring)
    process = desk._child
    busy(desk, scoring)
    waiting = desk.ask(rows(1), patient=True)
    desk.close()
    scoring.gate.set()
    with pytest.raises(Unavailable):
        waiting.result(10)
    with pytest.raises(Unavailable):
        desk.ask(rows(1), patient=True)
    assert process is not None
    until(lambda: process.poll() is not None)
