"""One release command in a process of its own, to be killed at a failpoint; run as a module: HOME promote|rollback [torn]."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from tests.loop.worlds import MODEL, SETTINGS, world_in

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.event import Event
from ecluse.core.failpoint import failpoint
from ecluse.core.rollout import Rollout, stages
from ecluse.loop.promote import promote
from ecluse.loop.rollback import rollback


class Torn(SqliteState):
    """The planted defect: the stages are committed before the rest."""

    def move(self, before: Rollout, after: Rollout, event: Event) -> None:
        connection = sqlite3.connect(self._database.path, isolation_level=None)
        for number, stage in stages(before, after).items():
            connection.execute("UPDATE version SET stage = ? WHERE number = ?", (stage.value, number))
        connection.close()
        failpoint("state.staged")
        super().move(before, after, event)


def main(home: str, command: str, kind: str = "whole") -> None:
    path = Path(home)
    world = world_in(path, state=(Torn if kind == "torn" else SqliteState)(path / "state.db"))
    if command == "promote":
        promote(world, SETTINGS, MODEL, 3, reason="drift", actor="ana")
    else:
        rollback(world, SETTINGS, MODEL, reason="latency", actor="ana")


if __name__ == "__main__":
    main(*sys.argv[1:])
