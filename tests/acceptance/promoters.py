"""Promoters in processes of their own, all at the starting line before any of them moves; and the planted defect."""

from __future__ import annotations

import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tests.loop.worlds import MODEL, SETTINGS, world_in

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.codec import canonical
from ecluse.core.errors import Conflict
from ecluse.core.event import Event
from ecluse.core.rollout import Rollout, stages
from ecluse.loop.promote import promote


class Together(SqliteState):
    """Moves only when every promoter of the round has read and decided: the worst moment, each time."""

    def __init__(self, path: Path, line: Barrier) -> None:
        super().__init__(path)
        self.line = line

    def move(self, before: Rollout, after: Rollout, event: Event) -> None:
        self.line.wait(60)
        self.change(before, after, event)

    def change(self, before: Rollout, after: Rollout, event: Event) -> None:
        super().move(before, after, event)


class Careless(Together):
    """The planted defect: no comparison, no unique index; otherwise the same writes, in one transaction."""

    def change(self, before: Rollout, after: Rollout, event: Event) -> None:
        self.append(event)
        connection = sqlite3.connect(self._database.path, isolation_level=None, timeout=30)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP INDEX IF EXISTS one_production")
        for number, stage in stages(before, after).items():
            connection.execute("UPDATE version SET stage = ? WHERE number = ?", (stage.value, number))
        row = (after.model, after.revision, after.champion, canonical(after).decode())
        connection.execute("INSERT OR REPLACE INTO rollout VALUES (?, ?, ?, ?)", row)
        connection.execute("COMMIT")
        connection.close()


def promoter(home: Path, place: int, careless: bool, line: Barrier, rounds: Any, answers: Any) -> None:
    """Each round promote the candidate of this place; answers "won" or the name of the error. ``rounds`` yields the numbers, then None."""
    state = (Careless if careless else Together)(home / "state.db", line)
    world = world_in(home, state=state)
    while (numbers := rounds.get()) is not None:
        try:
            promote(world, SETTINGS, MODEL, numbers[place], reason="race", actor=f"promoter {place}")
            answers.put("won")
        except Conflict:
            answers.put("Conflict")
        except Exception as error:  # noqa: BLE001 - the parent judges it
            answers.put(repr(error))
