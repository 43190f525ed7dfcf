"""Approvals over a real state: who may say what, what it is bound to, and that the loop releases by itself once enough have said yes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tests.loop.worlds import MODEL, SETTINGS, bundle_of, candidate, gate, run_of, world_in

from ecluse.adapters.clock import DataClock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.durable_dbos import DurableRunner
from ecluse.core.errors import InvalidInput, NotAllowed
from ecluse.core.event import Event
from ecluse.core.loop_settings import Approval, Policy
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.approve import approve, authors_of, disapprove, explain
from ecluse.loop.asking import ask
from ecluse.loop.carry_out import Done, Hands
from ecluse.loop.commands import Command, Gate, Retrain
from ecluse.loop.promote import promote
from ecluse.loop.register import register
from ecluse.loop.runner import WORK, handle, react
from ecluse.loop.triggers import Due

NOW = datetime.now(UTC)
BY_TWO = replace(
    SETTINGS,
    policy=Policy(promotion="risk", tier="high"),
    approval=Approval(approvers=("ana", "bob", "eva"), checklist=("segments", "costs"), expires=timedelta(days=3)),
)
BY_ONE = replace(SETTINGS, policy=Policy(promotion="approval"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world whose clock is moved by hand, with version 1 (made by ana) in Staging."""
    state = SqliteState(tmp_path / "state.db")
    clock = DataClock(state)
    clock.advance(NOW)
    world = world_in(tmp_path, state=state, clock=clock)
    candidate(world, "a")
    yield world
    state.close()


def yes(world: World, settings: Settings, who: str, *checks: str) -> bool:
    return approve(world, settings, MODEL, 1, reason="read the report", actor=who, checks=checks).enough


def newest(world: World) -> Event:
    return list(world.state.ledger())[-1].event


def run_loop(world: World, settings: Settings) -> list[str]:
    work = functools.partial(handle, world, cast(Any, None), settings, [])
    with DurableRunner.launch(world.home, {WORK: work}) as durable:
        return [str(row.event.evidence.get("command", row.event.kind)) for row in react(world, settings, durable)]


def test_the_loop_releases_once_enough_have_approved(world: World) -> None:
    assert not yes(world, BY_TWO, "bob", "segments")
    assert run_loop(world, BY_TWO) == ["Wait"]
    assert newest(world).reason == ("approval: 1 of 2 approvals (bob); not checked: costs: `ecluse approve 1 --why …`")
    assert yes(world, BY_TWO, "eva", "costs")
    assert run_loop(world, BY_TWO) == ["Promote", "version.promoted"]
    assert world.state.rollout(MODEL).champion == 1
    told = newest(world)
    given = [row.sequence for row in world.state.ledger() if row.event.kind == "version.approved"]
    assert (told.kind, told.evidence["approvals"], told.evidence["past"]) == ("version.promoted", given, "")
    assert "approved by bob, eva" in told.reason
    assert run_loop(world, BY_TWO) == []


def test_people_do_not_get_around_the_approvals(world: World) -> None:
    with pytest.raises(NotAllowed, match="not approved: 0 of 1 approvals"):
        promote(world, BY_ONE, MODEL, 1, reason="hurry", actor="bob")
    assert (newest(world).kind, newest(world).actor, newest(world).evidence) == (
        "release.refused",
        "bob",
        {"asked": "promote"},
    )
    assert yes(world, BY_ONE, "bob")
    assert promote(world, BY_ONE, MODEL, 1, reason="approved", actor="kim").champion == 1


@pytest.mark.parametrize("who", ["ana", "kim"])
def test_an_author_and_who_is_no_approver_are_refused_in_the_ledger(world: World, who: str) -> None:
    with pytest.raises(NotAllowed, match="author" if who == "ana" else "no approver"):
        yes(world, BY_TWO, who)
    assert (newest(world).kind, newest(world).actor, newest(world).evidence["asked"]) == (
        "release.refused",
        who,
        "approve",
    )


def test_who_asked_the_loop_to_retrain_is_an_author(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    asked = world.state.append(Event("trigger.raised", NOW, "bob", MODEL, evidence={"trigger": "manual"}))
    version = candidate(world, "a")
    run = world.state.run(version.run)
    world.state.add_run(
        replace(run, id="b", bundle="b" * 64, facts={"launched_by": f"loop, event {asked.sequence}"}),
        Event("run.finished", NOW, "loop", MODEL),
    )
    made = world.state.register(world.state.run("b"), NOW, Event("version.registered", NOW, "loop, event 1", MODEL))
    assert authors_of(world, made) == {"bob", f"loop, event {asked.sequence}"}
    assert authors_of(world, version) == {"ana"}


def test_who_asked_for_what_failed_is_an_author_of_what_a_retry_made(world: World) -> None:
    failing = 2

    def do(hands: Hands, command: Command, reproduced: bool | None) -> Done:
        """Trainings in name: the first ones fail, the next one makes a run that is registered."""
        nonlocal failing
        if isinstance(command, Gate):
            register(world, BY_ONE, command.run, reason="trained", actor=hands.actor)
        if not isinstance(command, Retrain):
            return Done(None)
        failing -= 1
        if failing >= 0:
            told = Event("run.failed", world.clock.now(), hands.actor, MODEL, None, "out of memory")
            return Done(world.state.append(told).sequence)
        bundle = bundle_of("mended")
        world.bundles.put(bundle, world.sealer.sign(bundle.digest))
        run = replace(run_of("mended", bundle.digest), facts={"launched_by": hands.actor})
        facts = {"run": run.id, "bundle": run.bundle}
        world.state.add_run(run, Event("run.finished", world.clock.now(), hands.actor, MODEL, evidence=facts))
        return Done(list(world.state.ledger())[-1].sequence)

    ask(world, MODEL, Due("manual", "", "the prices are new"), actor="bob")
    work = functools.partial(handle, world, cast(Any, None), BY_ONE, [], do=do)
    with DurableRunner.launch(world.home, {WORK: work}) as durable:
        for day in range(3):
            world.clock.advance(NOW + timedelta(days=day))
            react(world, BY_ONE, durable)
    made = world.state.versions(MODEL)[-1]
    assert made.run == "mended"
    [first, _, retry] = [row for row in world.state.ledger() if row.event.kind == "trigger.raised"]
    assert (first.event.actor, retry.event.evidence["trigger"]) == ("bob", "retry")
    assert authors_of(world, made) == {"bob", f"loop, event {retry.sequence}"}
    gate(world, made)
    with pytest.raises(NotAllowed, match="author"):
        approve(world, BY_ONE, MODEL, made.number, reason="fine", actor="bob")


def test_a_new_report_needs_new_approvals(world: World) -> None:
    assert yes(world, BY_ONE, "bob")
    world.clock.advance(NOW + timedelta(hours=1))
    gate(world, world.state.version(MODEL, 1))
    with pytest.raises(NotAllowed, match="0 of 1"):
        promote(world, BY_ONE, MODEL, 1, reason="approved", actor="kim")
    assert run_loop(world, BY_ONE) == ["Wait"]
    [each] = explain(world, BY_ONE, MODEL).candidates
    assert each.standing.void[0].why == "it was said of another gate report"
    assert yes(world, BY_ONE, "bob")
    assert run_loop(world, BY_ONE) == ["Promote", "version.promoted"]


def test_an_approval_expires_by_the_project_clock(world: World) -> None:
    assert yes(world, BY_ONE, "bob")
    world.clock.advance(NOW + timedelta(days=3, seconds=1))
    assert run_loop(world, BY_ONE) == ["Wait"]
    with pytest.raises(NotAllowed, match="0 of 1"):
        promote(world, BY_ONE, MODEL, 1, reason="late", actor="bob")


def test_a_no_holds_the_release_until_it_is_taken_back(world: World) -> None:
    assert yes(world, BY_ONE, "bob")
    assert not disapprove(world, BY_ONE, MODEL, 1, reason="costs look wrong", actor="eva").enough
    assert run_loop(world, BY_ONE) == ["Wait"]
    assert newest(world).reason.startswith("approval: 1 of 1 approvals (bob); eva says no")
    assert yes(world, BY_ONE, "eva")
    assert run_loop(world, BY_ONE) == ["Promote", "version.promoted"]


def test_what_cannot_be_approved(world: World) -> None:
    with pytest.raises(InvalidInput, match="not on the checklist"):
        yes(world, BY_TWO, "bob", "something")
    for settings in (SETTINGS, replace(SETTINGS, policy=Policy(promotion="automatic"))):
        with pytest.raises(NotAllowed, match="asks for no approval"):
            yes(world, settings, "bob")
    candidate(world, "b")
    promote(world, SETTINGS, MODEL, 2, reason="first", actor="ana")
    with pytest.raises(NotAllowed, match="another champion"):
        yes(world, BY_ONE, "bob")
    with pytest.raises(NotAllowed, match="not in Staging"):
        approve(world, BY_ONE, MODEL, 2, reason="again", actor="bob")
    gate(world, world.state.version(MODEL, 1))
    world.clock.advance(NOW + timedelta(days=8))
    with pytest.raises(NotAllowed, match="expired"):
        yes(world, BY_ONE, "bob")


def test_an_override_is_named_and_loud(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ecluse.loop"):
        promote(world, BY_ONE, MODEL, 1, reason="outage", actor="kim", override="kim, on call")
    promoted, loud = (row.event for row in list(world.state.ledger())[-2:])
    past = "version 1 is not approved: 0 of 1 approvals"
    assert (promoted.evidence["override"], promoted.evidence["past"]) == ("kim, on call", past)
    assert (loud.kind, loud.actor, loud.reason) == (
        "policy.overridden",
        "kim",
        f"kim, on call: outage; past: {past}",
    )
    assert [record.message for record in caplog.records] == ["policy overridden"]


def test_an_override_that_goes_past_nothing_is_not_loud(world: World) -> None:
    assert yes(world, BY_ONE, "bob")
    promote(world, BY_ONE, MODEL, 1, reason="approved", actor="kim", override="kim")
    assert newest(world).kind == "version.promoted"


def test_the_policy_explains_itself(world: World) -> None:
    yes(world, BY_TWO, "bob", "segments")
    told = explain(world, BY_TWO, MODEL)
    assert (told.rule.name, told.approvers, told.author_may_approve) == ("risk: high", ("ana", "bob", "eva"), False)
    [each] = told.candidates
    assert (each.version, each.authors, each.standing.missing) == (1, ("ana",), 1)
    assert each.standing.unchecked == ("costs",)
    assert each.standing.until == NOW + timedelta(days=3)
    assert explain(world, BY_TWO, MODEL, 1).candidates == told.candidates
