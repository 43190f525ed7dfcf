"""R3: a SIGKILL at each step of promote and rollback leaves the old or the new, never between; then everything converges."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.loop.worlds import MODEL, SETTINGS, candidate, world_in

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.sealing import verify
from ecluse.core.document import Document, read_document
from ecluse.core.event import broken_at
from ecluse.core.failpoint import POINTS, RELEASE, VARIABLE
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.version import Stage
from ecluse.loop.promote import promote
from ecluse.loop.publish import converge
from ecluse.loop.rollback import rollback

COMMANDS = ("promote", "rollback")
OLD = Rollout(MODEL, 2, champion=2, previous=(1,))
NEW = {
    "promote": Rollout(MODEL, 3, champion=3, previous=(1, 2)),
    "rollback": Rollout(MODEL, 3, champion=1, left=(2,)),
}
FACT = {"promote": "version.promoted", "rollback": "version.rolled_back"}
STEPS = [
    (command, point) for command in COMMANDS for point in RELEASE if point.split(".")[0] not in {*COMMANDS} - {command}
]
COMMITTED = RELEASE.index("state.after_commit")


@dataclass(frozen=True)
class Start:
    """Where each killed command starts from: version 2 serves, 1 served before, 3 may be promoted."""

    home: Path
    facts: int
    generation: int
    outbox: int


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    home = tmp_path_factory.mktemp("start")
    state = SqliteState(home / "state.db")
    world = world_in(home, state=state)
    for name in "ab":
        promote(world, SETTINGS, MODEL, candidate(world, name).number, reason="first", actor="ana")
    candidate(world, "c")
    made = Start(home, len(list(state.ledger())), state.generation(), len(state.pending()))
    assert state.rollout(MODEL) == OLD
    state.close()  # it is copied as files: none may go away meanwhile
    return made


def release(home: Path, root: Path, command: str, point: str, action: str = "kill", kind: str = "whole") -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.acceptance.releaser", str(home), command, kind],
        cwd=root,
        env={**os.environ, VARIABLE: f"{point}={action}"},
        capture_output=True,
        timeout=60,
    ).returncode


def faults(world: World, start: Start, command: str) -> list[str]:
    """What is neither wholly old nor wholly new."""
    state, rollout = world.state, world.state.rollout(MODEL)
    rows = list(state.ledger())
    production = [each.number for each in state.versions(MODEL) if each.stage is Stage.PRODUCTION]
    found = []
    if rollout not in (OLD, NEW[command]):
        found.append(f"the rollout is {rollout}")
    if production != [rollout.champion]:
        found.append(f"{production} in Production, champion {rollout.champion}")
    moved = rollout != OLD
    if [row.event.kind for row in rows[start.facts :]] != [FACT[command]] * moved:
        found.append("the facts are of another story")
    if (state.generation() - start.generation, len(state.pending()) - start.outbox) != (moved, moved):
        found.append("generation or outbox are of another story")
    if broken_at(rows) is not None:
        found.append("the ledger is broken")
    return found


def published(world: World) -> Document:
    signed = world.publisher.current()
    assert signed is not None
    return read_document(verify(signed, [world.sealer.public_key]))


@pytest.mark.parametrize(("command", "point"), STEPS)
def test_a_kill_leaves_old_or_new(start: Start, tmp_path: Path, root: Path, command: str, point: str) -> None:
    home = tmp_path / "home"
    shutil.copytree(start.home, home)
    assert release(home, root, command, point) == -signal.SIGKILL
    world = world_in(home)
    assert faults(world, start, command) == []
    # What workers read in the meantime is whole, signed, and one of the two.
    assert published(world).models[MODEL].champion in (2, NEW[command].champion)
    rollout = world.state.rollout(MODEL)
    before_commit = RELEASE.index(point) < COMMITTED and point.split(".")[1] not in ("moved", "published")
    assert rollout == (OLD if before_commit else NEW[command])

    converge(world, SETTINGS)
    assert published(world).models[MODEL].champion == rollout.champion
    assert published(world).generation == world.state.generation()
    if rollout == OLD:  # no lock was left, and the command can be given again
        again = {"reason": "again", "actor": "ana"}
        after = promote(world, SETTINGS, MODEL, 3, **again) if command == "promote" else None
        after = after or rollback(world, SETTINGS, MODEL, to=None, reason="again", actor="ana")
        assert after == NEW[command]
        assert published(world).models[MODEL].champion == after.champion


@pytest.mark.parametrize("point", ["state.chained", "publisher.before_rename"])
def test_a_failure_leaves_old_or_new_too(start: Start, tmp_path: Path, root: Path, point: str) -> None:
    home = tmp_path / "home"
    shutil.copytree(start.home, home)
    assert release(home, root, "promote", point, "raise") == 1
    assert faults(world_in(home), start, "promote") == []


def test_the_planted_defect_is_seen(start: Start, tmp_path: Path, root: Path) -> None:
    """Stages committed apart from the rest: the kill between them is found."""
    home = tmp_path / "home"
    shutil.copytree(start.home, home)
    assert release(home, root, "promote", "state.staged", kind="torn") == -signal.SIGKILL
    assert faults(world_in(home), start, "promote") != []


def test_every_failpoint_is_on_the_way(root: Path) -> None:
    sources = "".join(path.read_text() for path in (root / "src" / "ecluse").rglob("*.py"))
    assert [point for point in POINTS if sources.count(f'failpoint("{point}")') < 1] == []
    assert all(sum(command == each for each, _ in STEPS) >= 10 for command in COMMANDS)
