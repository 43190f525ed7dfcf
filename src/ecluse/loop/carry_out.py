"""Carry out: what a command does to the world, as remembered steps. Steps exchange ids and numbers only, and find what they did before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ecluse.core.errors import Conflict, Corrupt, NotAllowed, NotFound, Unavailable
from ecluse.core.event import Event, LedgerRow
from ecluse.core.failpoint import failpoint
from ecluse.core.instants import format_instant, parse_instant
from ecluse.core.ports import Step, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.loop.child import Child, Order, dismiss, give, spawn, wait_for
from ecluse.loop.commands import Alert, Command, Gate, Promote, Retrain
from ecluse.loop.gate import gate
from ecluse.loop.pause import stop_if_paused
from ecluse.loop.promote import promote
from ecluse.loop.register import register

REFUSALS = (Conflict, Corrupt, NotAllowed, NotFound)
"""Errors that say no for good; anything else is tried again."""


@dataclass(frozen=True)
class Hands:
    """What the chain of one event works with: the ports, the step that remembers, and the name it acts under (``origin`` its event);
    ``warm`` are training processes that wait for an order already, ``running`` those that work.
    """

    world: World
    project: Project
    settings: Settings
    step: Step
    origin: int
    warm: list[Child] = field(default_factory=list)
    running: list[Child] = field(default_factory=list)

    @property
    def actor(self) -> str:
        """Who acts, for the ledger."""
        return actor_of(self.origin)


def actor_of(origin: int) -> str:
    """Whom the ledger names for a chain's doings: unique to its event, so that what was done for it can be found again.

    >>> actor_of(7)
    'loop, event 7'
    """
    return f"loop, event {origin}"


@dataclass(frozen=True)
class Done:
    """The number of the event a command led to (None: it leads no further), and whether the run it made was made twice alike."""

    event: int | None
    reproduced: bool | None = None
    refused: str = ""


def carry_out(hands: Hands, command: Command, reproduced: bool | None) -> Done:
    """Do it. ``reproduced`` is what is known of the run to be judged. Raises Unavailable (then nothing is lost: it goes on later)."""
    if isinstance(command, Retrain):
        return _retrain(hands, command)
    if isinstance(command, Gate):
        return _gate(hands, command, reproduced)
    if isinstance(command, Promote):
        return _promote(hands, command)
    if isinstance(command, Alert):
        hands.step(f"alert {command.model}", lambda: _alert(hands, command))
    return Done(None)


def find(world: World, after: int, actor: str, model: str, *kinds: str) -> LedgerRow | None:
    """The newest of these facts about a model that ``actor`` told after an event."""
    found = None
    for row in world.state.ledger(model=model, after=after):
        if row.event.actor == actor and row.event.kind in kinds:
            found = row
    return found


def _retrain(hands: Hands, command: Retrain) -> Done:
    moment = hands.step(f"moment {command.cause}", lambda: format_instant(hands.world.clock.now()))
    result = hands.step(f"train {command.cause}", lambda: _train(hands, command, parse_instant(moment)))
    return Done(result["event"], result["reproduced"])


def _train(hands: Hands, command: Retrain, moment: datetime) -> dict[str, Any]:
    """Two children at once where the gates ask for it: one records a run, the other proves that the same comes out again."""
    world, settings = hands.world, hands.settings
    order = Order(world.root, settings.profile, command.model, moment, hands.actor)
    twice = settings.for_model(command.model).gates.reproducible
    second = _begin(hands, replace(order, dry_run=True)) if twice else None
    try:
        row = _trained(hands, command, order)
        failpoint("train.recorded")
        if second is None or row.event.kind != "run.finished":
            return {"event": row.sequence, "reproduced": None}
        again = wait_for(second, settings.for_model(command.model).triggers.training_timeout)
        stop_if_paused(world)
        return {"event": row.sequence, "reproduced": again.answer.get("bundle") == row.event.evidence.get("bundle")}
    finally:
        if second is not None:
            dismiss(second)


def _begin(hands: Hands, order: Order) -> Child:
    child = hands.warm.pop() if hands.warm else spawn(hands.world.root)
    give(child, order)
    hands.running.append(child)
    return child


def _trained(hands: Hands, command: Retrain, order: Order) -> LedgerRow:
    """The fact the training told; found when it was told before this process was killed, told here when it died without a word.

    A training that could not reach what it needs has failed like another: the guard rails say when the next begins, and call a person.
    """

    def told() -> LedgerRow | None:
        return find(hands.world, command.cause, hands.actor, command.model, "run.finished", "run.failed")

    if (row := told()) is not None:
        return row
    clock = time.monotonic()
    child = _begin(hands, order)
    failpoint("train.begun")
    try:
        why = wait_for(child, hands.settings.for_model(command.model).triggers.training_timeout).why
    except Unavailable as error:
        why = str(error)
    stop_if_paused(hands.world)  # then it did not fail: it was ended
    return told() or _tell_failure(hands, command, why, time.monotonic() - clock)


def _tell_failure(hands: Hands, command: Retrain, why: str, seconds: float) -> LedgerRow:
    now, spent = hands.world.clock.now(), {"seconds": round(seconds, 3)}
    return hands.world.state.append(Event("run.failed", now, hands.actor, command.model, None, why, spent))


def _alert(hands: Hands, command: Alert) -> int:
    row = find(hands.world, hands.origin - 1, hands.actor, command.model, "alert.raised")
    if row is None:
        now = hands.world.clock.now()
        row = hands.world.state.append(Event("alert.raised", now, hands.actor, command.model, reason=command.reason))
    return row.sequence


def _gate(hands: Hands, command: Gate, reproduced: bool | None) -> Done:
    world, settings = hands.world, hands.settings

    def registered() -> dict[str, Any]:
        version = register(world, settings, command.run, reason=command.reason, actor=hands.actor)
        return {"version": version.number}

    def gated(number: int) -> dict[str, Any]:
        row = _about(hands, command.model, "version.gated", number)
        if row is None:
            gate(world, hands.project, settings, command.model, number, actor=hands.actor, reproduced=reproduced)
            row = _about(hands, command.model, "version.gated", number)
        assert row is not None, "a judged version has its row in the ledger"
        return {"event": row.sequence}

    answer = hands.step(f"register {command.run}", lambda: _or_refused(registered))
    if "refused" not in answer:
        answer = hands.step(f"gate {command.run}", lambda: _or_refused(lambda: gated(answer["version"])))
    return Done(answer.get("event"), refused=answer.get("refused", ""))


def _promote(hands: Hands, command: Promote) -> Done:
    world, number = hands.world, command.version

    def promoted() -> dict[str, Any]:
        if world.state.rollout(command.model).champion != number:
            promote(world, hands.settings, command.model, number, reason=command.reason, actor=hands.actor)
        row = _about(hands, command.model, "version.promoted", number)
        return {"event": None if row is None else row.sequence}

    answer = hands.step(f"promote {command.model} {number}", lambda: _or_refused(promoted))
    return Done(answer.get("event"), refused=answer.get("refused", ""))


def _about(hands: Hands, model: str, kind: str, number: int) -> LedgerRow | None:
    row = find(hands.world, hands.origin, hands.actor, model, kind)
    return row if row is not None and row.event.version == number else None


def _or_refused(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except REFUSALS as error:
        return {"refused": str(error)}
