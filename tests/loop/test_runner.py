"""A chain that fails is put off and holds up nobody; a training that hangs or lacks its store has failed like any other."""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.loop.worlds import MODEL, SETTINGS, fact, run_of, world_in

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.codec import canonical, digest_bytes
from ecluse.core.errors import Unavailable
from ecluse.core.event import LedgerRow
from ecluse.core.loop_settings import Triggers
from ecluse.core.ports import World
from ecluse.loop.asking import ask
from ecluse.loop.carry_out import Done, Hands, carry_out
from ecluse.loop.commands import Command
from ecluse.loop.runner import WORK, Chains, PutOff, handle, react, unhandled
from ecluse.loop.triggers import Due
from ecluse.testing.twins import Remembering

OTHER = "price"
QUICK = replace(SETTINGS, triggers=Triggers(attempts=2, backoff=timedelta(milliseconds=200)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = world_in(tmp_path)
    declaration = canonical({"models": [{"name": MODEL}, {"name": OTHER}]})
    world.state.save_declaration(digest_bytes(declaration), declaration)
    return world


class Counted(Remembering):
    """Durable work in memory that notes which chains it was asked for."""

    def run(self, workflow_id: str, name: str, *args: Any) -> Any:
        self.ran = [*getattr(self, "ran", []), args[0]]
        return super().run(workflow_id, name, *args)


def durable(world: World, do: Callable[[Hands, Command, bool | None], Done]) -> Counted:
    return Counted({WORK: functools.partial(handle, world, None, QUICK, [], do=do)})  # type: ignore[arg-type]


def asked(world: World, model: str) -> int:
    return ask(world, model, Due("manual", "", "now"), actor="ana").sequence


def kinds(rows: Any) -> list[tuple[str, str]]:
    return [(row.event.kind, row.event.model) for row in rows]


def away(tried: list[str], until: int, error: Exception) -> Callable[[Hands, Command, bool | None], Done]:
    """The first model's chain fails until it was tried so many times."""

    def do(hands: Hands, command: Command, reproduced: bool | None) -> Done:
        model = command.model  # type: ignore[union-attr]
        tried.append(model)
        if model == MODEL and tried.count(MODEL) < until:
            raise error
        return Done(None)

    return do


@pytest.mark.parametrize("error", [Unavailable("the store is gone"), KeyError("a bug")])
def test_a_chain_that_fails_is_put_off_and_the_others_go_on(world: World, error: Exception) -> None:
    tried: list[str] = []
    chains = Chains()
    works = durable(world, away(tried, 3, error))
    first = asked(world, MODEL)
    second = asked(world, OTHER)

    assert kinds(react(world, QUICK, works, chains)) == [("loop.decided", MODEL), ("loop.decided", OTHER)]
    assert react(world, QUICK, works, chains) == []
    assert tried == [MODEL, OTHER], "it waits, the other did not wait for it"
    assert works.ran == [first, second], "nor is what ended looked at again while the mark stands before it"
    assert unhandled(world)[0].sequence == first

    _sleep_until_due(chains.put_off[first])
    [alert] = react(world, QUICK, works, chains)
    assert (alert.event.kind, alert.event.model) == ("alert.raised", MODEL), "a person is called, once"
    assert str(error) in alert.event.reason
    assert react(world, QUICK, works, chains) == []

    _sleep_until_due(chains.put_off[first])
    assert react(world, QUICK, works, chains) == []
    assert (tried.count(MODEL), tried.count(OTHER)) == (3, 1)
    assert chains == Chains()
    assert unhandled(world) == []


def _sleep_until_due(event: PutOff) -> None:
    wait = event.until - time.monotonic()
    assert 0 < wait < 0.2 * 2 * 1.25
    time.sleep(wait)


def test_who_asks_once_is_told_in_the_end(world: World) -> None:
    tried: list[str] = []
    works = durable(world, away(tried, 2, Unavailable("the store is gone")))
    asked(world, MODEL)
    asked(world, OTHER)
    with pytest.raises(Unavailable, match="the store is gone"):
        react(world, QUICK, works)
    assert tried == [MODEL, OTHER]
    assert react(world, QUICK, works) == []
    assert tried == [MODEL, OTHER, MODEL], "asked again it tries at once"


def test_what_a_chain_told_is_not_taken_from_it(world: World) -> None:
    """A run of a chain that was put off is that chain's to judge, which knows whether it came out twice."""
    tried: list[str] = []

    def do(hands: Hands, command: Command, reproduced: bool | None) -> Done:
        tried.append(type(command).__name__)
        run = run_of("a", "0" * 64)
        told = replace(fact("run.finished", run=run.id, bundle=run.bundle), actor=hands.actor)
        hands.world.state.add_run(run, told)
        raise Unavailable("no process can be started for its proof")

    asked(world, MODEL)
    rows = react(world, QUICK, durable(world, do), Chains())
    assert [row.event.kind for row in rows] == ["loop.decided", "run.finished"]
    assert tried == ["Retrain"]


def test_a_state_that_cannot_be_written_ends_the_look_and_is_not_the_chains_fault(world: World) -> None:
    world = replace(world, state=SqliteState(world.home / "state.db", busy_seconds=0.05))
    other = sqlite3.connect(world.home / "state.db", isolation_level=None)
    tried: list[str] = []
    chains = Chains()

    def do(hands: Hands, command: Command, reproduced: bool | None) -> Done:
        tried.append(command.model)  # type: ignore[union-attr]
        if len(tried) == 1:
            other.execute("BEGIN IMMEDIATE")
            raise Unavailable("the run cannot be recorded")
        return Done(None)

    works = durable(world, do)
    asked(world, MODEL)
    asked(world, OTHER)
    with pytest.raises(Unavailable, match="locked"):
        react(world, QUICK, works, chains)
    assert (tried, chains) == ([MODEL], Chains())
    other.close()
    react(world, QUICK, works, chains)
    assert tried == [MODEL, MODEL, OTHER], "at once"


@pytest.mark.parametrize(
    ("project", "why"),
    [
        ("from ecluse.core.errors import Unavailable\nraise Unavailable('the store is gone')\n", "the store is gone"),
        ("import time\ntime.sleep(600)\n", "longer than 2s"),
    ],
)
def test_a_training_without_an_end_or_without_its_store_has_failed(world: World, project: str, why: str) -> None:
    """It is told as failed, the next waits for its back-off, and who asks meanwhile gets an answer."""
    (world.root / "project.py").write_text(project)
    limits = Triggers(training_timeout=timedelta(seconds=2 if "sleep" in project else 60))
    settings = replace(SETTINGS, triggers=limits, gates=replace(SETTINGS.gates, reproducible=False))
    work = functools.partial(handle, world, None, settings, [], do=carry_out)  # type: ignore[arg-type]
    works, chains = Remembering({WORK: work}), Chains()
    asked(world, MODEL)
    rows = react(world, settings, works, chains)
    assert [row.event.kind for row in rows] == ["loop.decided", "run.failed", "loop.decided"]
    assert why in rows[1].event.reason
    assert rows[2].event.evidence["command"] == "Wait"
    assert chains == Chains()
    ask(world, MODEL, Due("outside", "erp/1", "prices"), actor="erp")
    [held] = react(world, settings, works, chains)
    assert _why(held) == "backing_off"


def _why(row: LedgerRow) -> str:
    return str(row.event.evidence["why"])
