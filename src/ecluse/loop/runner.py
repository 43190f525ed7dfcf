"""Runner: events nobody has handled yet, each with the chain it sets off: decide, do, and again for the event that follows.

A chain is one durable piece of work named after its event; its steps are remembered, so a killed process goes on where it was, and the same
event handled twice is handled once. What was decided, and of which event, is in the ledger as ``loop.decided``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ecluse.core.errors import NotFound
from ecluse.core.event import Event, LedgerRow
from ecluse.core.ports import Durable, Step, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.loop.carry_out import Hands, carry_out
from ecluse.loop.child import Child, dismiss, spawn
from ecluse.loop.commands import Command, Nothing, Retrain, command_from_plain, command_to_plain
from ecluse.loop.decide import KINDS, Facts, decide
from ecluse.loop.publish import converge

HANDLED = "loop.handled"
WORK = "event"
DECIDED = "loop.decided"


def unhandled(world: World) -> list[LedgerRow]:
    """Events that may lead to a decision and that no chain has dealt with, oldest first. Linear in the ledger behind the mark."""
    rows = list(world.state.ledger(after=_mark(world)))
    within = {
        row.event.evidence["cause"]
        for row in rows
        if row.event.kind == DECIDED and row.event.evidence["cause"] != row.event.evidence["origin"]
    }
    return [row for row in rows if row.event.kind in KINDS and row.sequence not in within]


def react(world: World, settings: Settings, durable: Durable) -> Sequence[LedgerRow]:
    """Handle every event nobody has handled yet, oldest first, until nothing new follows; returns the rows added on the way.

    Raises Unavailable: then what was begun goes on with the next call.
    """
    converge(world, settings)  # what an interrupted promotion left unpublished
    begun = newest = _newest(world)
    while rows := unhandled(world):
        row = rows[0]
        durable.run(f"{WORK}-{row.sequence}-{row.hash[:12]}", WORK, row.sequence)
        world.state.set_meta(HANDLED, str(row.sequence))
        newest = _newest(world)
    # Everything up to a row read *before* the last look: what others add meanwhile is not skipped.
    world.state.set_meta(HANDLED, str(newest))
    return [row for row in world.state.ledger(after=begun) if row.event.actor.startswith("loop")]


@contextmanager
def warm_children(world: World, settings: Settings) -> Iterator[list[Child]]:
    """Training processes getting ready for the retraining that is about to be decided (none when none is); ended when nobody used them."""
    children: list[Child] = []
    try:
        for row in unhandled(world):
            own = settings.for_model(row.event.model)
            commands = decide(row.event, gather(world, row.event, row.sequence), own.policy)
            if not children and any(isinstance(command, Retrain) for command in commands):
                children.extend(spawn(world.root) for _ in range(2 if own.gates.reproducible else 1))
        yield children
    finally:
        for child in children:
            dismiss(child)


def handle(
    world: World, project: Project, settings: Settings, warm: list[Child], step: Step, sequence: int
) -> list[int]:
    """The chain of one event: the numbers of the events it led through, itself first. Raises Unavailable."""
    hands = Hands(world, project, settings, step, sequence, warm)
    through: list[int] = []
    following: int | None = sequence
    reproduced: bool | None = None
    while following is not None:
        cause, following = following, None
        through.append(cause)
        for plain in step(f"decide {cause}", partial(_decide, hands, cause)):
            command = command_from_plain(plain)
            done = carry_out(hands, command, reproduced)
            following, reproduced = done.event, done.reproduced
            if done.refused:
                step(f"refuse {cause}", partial(_refuse, hands, cause, done.refused))
    return through


def _decide(hands: Hands, cause: int) -> list[dict[str, Any]]:
    """Decide, and tell the ledger; what was told before this process was killed stands."""
    told = [row.event.evidence for row in hands.world.state.ledger(after=cause) if row.event.kind == DECIDED]
    before = [e["plan"] for e in told if e["cause"] == cause and e["origin"] == hands.origin]
    if before:
        return before
    event = _row(hands.world, cause).event
    facts = gather(hands.world, event, cause)
    commands = decide(event, facts, hands.settings.for_model(event.model).policy)
    for command in commands:
        _tell(hands, event, cause, command, event.version if facts.version is None else facts.version.number)
    return [command_to_plain(command) for command in commands]


def _refuse(hands: Hands, cause: int, why: str) -> int:
    """What a command could not do is a decision too: it stays undone."""
    event = _row(hands.world, cause).event
    facts = gather(hands.world, event, cause)
    number = event.version if facts.version is None else facts.version.number
    return _tell(hands, event, cause, Nothing(why), number)


def gather(world: World, event: Event, sequence: int) -> Facts:
    """What is true of an event's model and version now."""
    state = world.state
    versions = state.versions(event.model) if event.model else ()
    run = str(event.evidence.get("run", ""))
    bundle = event.evidence.get("bundle")
    own = [v for v in versions if (v.number == event.version if event.version is not None else run and v.run == run)]
    version = own[0] if own else None
    return Facts(
        sequence=sequence,
        champion=state.rollout(event.model).champion if event.model else None,
        run=run,
        twin=next((v.number for v in versions if v.bundle == bundle and v.run != run), None),
        version=version,
        report=None if version is None else state.report(event.model, version.number),
    )


def _tell(hands: Hands, event: Event, cause: int, command: Command, version: int | None) -> int:
    evidence = {
        "command": type(command).__name__,
        "cause": cause,
        "origin": hands.origin,
        "plan": command_to_plain(command),
    }
    fact = Event(DECIDED, hands.world.clock.now(), hands.actor, event.model, version, command.reason, evidence)
    return hands.world.state.append(fact).sequence


def _row(world: World, sequence: int) -> LedgerRow:
    row = next(iter(world.state.ledger(after=sequence - 1)), None)
    if row is None or row.sequence != sequence:
        raise NotFound(f"event {sequence}", where="ledger", cure="see `ecluse history`")
    return row


def _mark(world: World) -> int:
    return int(world.state.meta(HANDLED) or 0)


def _newest(world: World) -> int:
    mark = _mark(world)
    return max((row.sequence for row in world.state.ledger(after=mark)), default=mark)
