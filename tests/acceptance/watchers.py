"""Watchers in processes of their own, all at the starting line of a window before any of them judges it; and the planted defect."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tests.loop.test_monitor import SETTINGS
from tests.loop.worlds import world_in

import ecluse.loop.monitor
from ecluse.adapters.clock import project_clock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.journal_archive import JournalArchive
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.loop.monitor import monitor


def world_of(home: Path) -> World:
    """The ports a monitor needs, over the home of another process."""
    state = SqliteState(home / "state.db")
    return replace(
        world_in(home, state=state),
        clock=project_clock("data", state),
        read_predictions=JournalArchive(home / "journal").read,
    )


def watcher(home: Path, line: Barrier | None, careless: bool, windows: Any, answers: Any) -> None:
    """Judge each window (a number of predictions) that comes, until None; answers the number of the drift event, or an error's name."""
    world = world_of(home)
    if careless:
        vars(ecluse.loop.monitor)["tell_once"] = lambda world, event: _look_then_tell(world, event, line)
    while (last := windows.get()) is not None:
        try:
            if line is not None:
                line.wait(60)
            answers.put(monitor(world, SETTINGS, "churn", last=last, actor="watcher").event)
        except Exception as error:  # noqa: BLE001 - the parent judges it
            answers.put(repr(error))


def _look_then_tell(world: World, event: Event, line: Barrier | None) -> int:
    """The planted defect: nothing stands between looking and telling."""
    key = event.evidence["key"]
    found = [r for r in world.state.ledger() if r.event.kind == event.kind and r.event.evidence["key"] == key]
    if line is not None:
        line.wait(60)
    return found[0].sequence if found else world.state.append(event).sequence
