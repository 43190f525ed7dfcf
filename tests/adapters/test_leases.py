"""Leases: one holder at a time, tokens that only grow, and a fence within every write. The same promises hold of the twin in memory."""

import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.loop.worlds import MODEL, SETTINGS, candidate, fact, world_in

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.errors import Conflict
from ecluse.core.lease import Lease
from ecluse.core.ports import State
from ecluse.loop.promote import promote
from ecluse.testing.memory_state import MemoryState

NAME = "retrain/churn"
Make = Callable[[], State]


@pytest.fixture(params=["sqlite", "memory"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    return SqliteState(tmp_path / "state.db") if request.param == "sqlite" else MemoryState(lambda: 0.0)


def _taken(state: State, holder: str = "a", seconds: float = 60.0) -> Lease:
    lease = state.take_lease(NAME, holder, seconds)
    assert lease is not None
    return lease


def test_one_holder_at_a_time(state: State) -> None:
    first = _taken(state)
    assert state.take_lease(NAME, "b", 60.0) is None
    assert state.take_lease("retrain/other", "b", 60.0) is not None
    state.release_lease(first)
    assert _taken(state, "b").token == first.token + 1


def test_a_lease_that_ended_is_anybodys_and_its_old_token_nobodys(state: State) -> None:
    first = _taken(state, seconds=0.0)
    second = _taken(state, "b")
    assert not state.renew_lease(first)
    assert state.renew_lease(second)
    state.release_lease(first)  # of no effect: it was lost
    assert state.take_lease(NAME, "c", 60.0) is None


def test_the_same_chain_of_the_same_process_takes_it_anew(state: State) -> None:
    first = _taken(state)
    second = _taken(state)
    assert second.token == first.token + 1
    assert not state.renew_lease(first)


def test_every_write_of_a_lost_lease_is_refused_and_changes_nothing(state: State) -> None:
    lease = _taken(state, seconds=0.0)
    seen = state.fenced(lease)
    seen.append(fact())
    _taken(state, "b")
    writes: list[Callable[[], Any]] = [
        lambda: seen.append(fact()),
        lambda: seen.set_meta("x", "1"),
        seen.bump,
        lambda: seen.swap_meta("x", None, "1", fact()),
        lambda: seen.raise_meta("x", "1"),
    ]
    for write in writes:
        with pytest.raises(Conflict, match="lost"):
            write()
    assert (len(list(state.ledger())), state.meta("x"), state.generation()) == (1, None, 0)
    assert state.append(fact()).sequence == 2  # unfenced writes go on


def test_a_paused_holder_cannot_publish(tmp_path: Path) -> None:
    """The worker slept past its lease, another took over and released: what the first wanted to release is refused, whole."""
    from dataclasses import replace

    world = world_in(tmp_path)
    first, second = candidate(world, "a").number, candidate(world, "b").number
    lease = _taken(world.state, seconds=0.0)
    paused = replace(world, state=world.state.fenced(lease))
    taken = _taken(world.state, "b")
    promote(replace(world, state=world.state.fenced(taken)), SETTINGS, MODEL, second, reason="mine", actor="b")
    with pytest.raises(Conflict):
        promote(paused, SETTINGS, MODEL, first, reason="mine", actor="a", override="it slept")
    assert world.state.rollout(MODEL).champion == second
    # The planted defect: without the fence the sleeper wins.
    promote(world, SETTINGS, MODEL, first, reason="mine", actor="a", override="it slept")
    assert world.state.rollout(MODEL).champion == first


def _take_and_die(path: Path) -> None:
    assert SqliteState(path).take_lease(NAME, "a", 3_600.0) is not None


def _take(path: Path, answers: Any) -> None:
    lease = SqliteState(path).take_lease(NAME, "a", 60.0)
    answers.put(None if lease is None else lease.token)


def test_a_dead_process_holds_nothing_a_living_one_all(tmp_path: Path) -> None:
    path, context = tmp_path / "state.db", multiprocessing.get_context("spawn")
    child = context.Process(target=_take_and_die, args=(path,))
    child.start()
    child.join(60)
    state, answers = SqliteState(path), context.Queue()
    lease = state.take_lease(NAME, "a", 60.0)
    assert lease is not None
    assert lease.token == 2
    other = context.Process(target=_take, args=(path, answers))
    other.start()
    assert answers.get(timeout=60) is None, "the same name, but another process"
    other.join(60)


def test_the_clock_of_the_wall_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M4: leases count from the start of the machine."""
    import time

    state = SqliteState(tmp_path / "state.db")
    _taken(state)
    monkeypatch.setattr(time, "time", lambda: datetime(2099, 1, 1, tzinfo=UTC).timestamp())
    assert state.take_lease(NAME, "b", 60.0) is None
