"""A fact is told once by its key, in every state."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.loop.worlds import fact, world_in

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.ports import State, World
from ecluse.loop.once import tell_once
from ecluse.testing.memory_state import MemoryState


@pytest.fixture(params=["sqlite", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    state: State = SqliteState(tmp_path / "state.db") if request.param == "sqlite" else MemoryState(lambda: 0.0)
    return replace(world_in(tmp_path, state=state), state=state)


def test_a_key_is_told_once_of_each_kind_and_model(world: World) -> None:
    window = fact("drift.detected", "churn", key="a")
    world.state.append(fact("monitor.judged", "churn", key="a"))
    told = [
        tell_once(world, event)
        for event in (window, window, fact("drift.detected", "fraud", key="a"), fact("drift.detected", key="b"), window)
    ]
    assert told == [2, 2, 3, 4, 2]
    assert len(list(world.state.ledger())) == 4
    assert [row.sequence for row in world.state.ledger(key="a")] == [1, 2, 3]
