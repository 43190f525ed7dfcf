"""Runner: events nobody has handled yet, each with the chain it sets off: decide, do, and again for the event that follows.

A chain is one durable piece of work named after its event; its steps are remembered, so a killed process goes on where it was, and the same
event handled twice is handled once. What was decided, and of which event, is in the ledger as ``loop.decided``, or as ``trigger.suppressed``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ecluse.core.errors import Conflict, EcluseError, NotFound
from ecluse.core.event import Event, LedgerRow
from ecluse.core.failpoint import failpoint
from ecluse.core.ports import Durable, Step, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.loop.approve import hear
from ecluse.loop.asking import raise_due
from ecluse.loop.carry_out import Done, Hands, actor_of, carry_out
from ecluse.loop.child import Child, dismiss, spawn
from ecluse.loop.commands import Command, Nothing, Retrain, Suppress, command_from_plain, command_to_plain
from ecluse.loop.decide import KINDS, Facts, decide
from ecluse.loop.guard import Case, backoff, guard
from ecluse.loop.incident import hold_releases
from ecluse.loop.keep import LEASE_SECONDS, kept
from ecluse.loop.pause import paused, stop_if_paused
from ecluse.loop.publish import converge
from ecluse.loop.steps import killable
from ecluse.loop.story import story_so_far
from ecluse.loop.triggers import LASTING, origin_of, trigger_of

HANDLED = "loop.handled"
WORK = "event"
_log = logging.getLogger("ecluse.loop")
DECIDED, SUPPRESSED = "loop.decided", "trigger.suppressed"
TRIGGERS = frozenset({"drift.detected", "trigger.raised"})
"""The events that ask for a retraining: their chains hold the model's lease."""
SETTLED = frozenset({"Suppress", "Wait", "Nothing"})
"""Commands that leave nothing to do."""

Do = Callable[[Hands, Command, bool | None], Done]


@dataclass(frozen=True)
class PutOff:
    """A chain that could not be brought to its end: why, how often in a row, and the monotonic second from which it is tried again."""

    why: Exception
    attempts: int
    until: float


@dataclass
class Chains:
    """What one look leaves to the next: events that are put off, and those behind them whose chains have ended."""

    put_off: dict[int, PutOff] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)


def unhandled(world: World) -> list[LedgerRow]:
    """Events that may lead to a decision and that no chain has dealt with, oldest first. Linear in the ledger behind the mark."""
    return _look(world)[0]


def _look(world: World) -> tuple[list[LedgerRow], set[int]]:
    """The unhandled events, and those of them a chain was begun for."""
    rows = list(world.state.ledger(after=_mark(world)))
    told = [row.event.evidence for row in rows if row.event.kind in (DECIDED, SUPPRESSED)]
    begun = {each["cause"] for each in told if each["command"] not in SETTLED and each["cause"] == each["origin"]}
    over = {each["cause"] for each in told} - begun
    return [row for row in rows if row.event.kind in KINDS and row.sequence not in over], begun


def react(world: World, settings: Settings, durable: Durable, memory: Chains | None = None) -> Sequence[LedgerRow]:
    """Handle every event nobody has handled yet, oldest first, until nothing new follows; returns the rows added on the way.

    What is due by the clock or the data is raised first. A paused loop does nothing. An event whose chain fails is put off, and the others
    go on. A loop that stays up has a ``memory`` of until when; without it every event is tried, and in the end the first failure raised.
    Raises Unavailable when the loop was paused halfway or the state is away: then what was begun goes on with the next call.
    """
    if paused(world) is not None:
        return []
    converge(world, settings)  # what an interrupted promotion left unpublished
    begun = newest = _newest(world)
    raise_due(world, settings)
    chains = Chains() if memory is None else memory
    seen, left = set(chains.ended), set[int]()
    while paused(world) is None:
        waiting, known = _look(world)
        # what a chain told that has not come to its end is for that chain to deal with
        fresh = [row for row in waiting if row.sequence not in seen and origin_of(row.event) not in left]
        if not fresh:
            break
        for row in fresh:
            seen.add(row.sequence)
            chained = row.sequence in known or not _settled(world, settings, row)
            if chained and not _followed(world, settings, durable, row, chains):
                left.add(row.sequence)
            if not left:  # the mark stays before what waits, and before what another process is still at
                _mark_handled(world, row.sequence)
            if chained:
                break  # a chain deals with later rows too: look again
        newest = _newest(world)
    else:
        return _told(world, begun)  # paused: the rest of the look waits
    if not left:
        # Everything up to a row read *before* the last look: what others add meanwhile is not skipped.
        _mark_handled(world, newest)
        chains.ended.clear()
    failpoint("react.handled")
    if memory is None and chains.put_off:
        raise next(iter(chains.put_off.values())).why
    return _told(world, begun)


def _told(world: World, begun: int) -> list[LedgerRow]:
    return [row for row in world.state.ledger(after=begun) if row.event.actor.startswith("loop")]


def _followed(world: World, settings: Settings, durable: Durable, row: LedgerRow, chains: Chains) -> bool:
    """Whether the chain of an event came to its end; not when another process holds its lease, nor when it failed and is put off."""
    before = chains.put_off.get(row.sequence)
    if before is not None and time.monotonic() < before.until:
        return False
    try:
        durable.run(f"{WORK}-{row.sequence}-{row.hash[:12]}", WORK, row.sequence)
    except Conflict as held:
        _log.info("left to another process", extra={"facts": {"event": row.sequence, "why": str(held)}})
        return False
    except Exception as error:  # noqa: BLE001 - a store that is away, or a bug: neither may hold up the events behind it
        attempts = 1 if before is None else before.attempts + 1
        chains.put_off[row.sequence] = _put_off(world, settings, row, error, attempts)
        return False
    chains.put_off.pop(row.sequence, None)
    chains.ended.add(row.sequence)
    return True


def _put_off(world: World, settings: Settings, row: LedgerRow, why: Exception, attempts: int) -> PutOff:
    """Until when an event waits whose chain failed for the so many-th time: as long as a failed training would. Then a person is called.

    Raises Unavailable when the loop is paused, or when the state cannot be written: then it is not this chain that failed.
    """
    stop_if_paused(world)
    world.state.set_meta(HANDLED, str(_mark(world)))  # changes nothing, but tells whether anything can be recorded
    model, triggers = row.event.model, settings.for_model(row.event.model).triggers
    wait = backoff(triggers, attempts, f"{model}/{row.sequence}").total_seconds()
    facts = {"event": row.sequence, "model": model, "attempt": attempts, "seconds": round(wait), "why": str(why)}
    _log.error("put off", extra={"facts": facts}, exc_info=None if isinstance(why, EcluseError) else why)
    if attempts == triggers.attempts:
        said = f"event {row.sequence} could not be dealt with {attempts} times, and is tried again: {why}"
        world.state.append(Event("alert.raised", world.clock.now(), "loop", model, row.event.version, said))
    return PutOff(why, attempts, time.monotonic() + wait)


def _mark_handled(world: World, sequence: int) -> None:
    if sequence > _mark(world):
        world.state.set_meta(HANDLED, str(sequence))


def _settled(world: World, settings: Settings, row: LedgerRow) -> bool:
    """Whether the event led to nothing that needs doing; that is told at once, without the cost of durable work."""
    commands, number = resolve(world, settings, row)
    if not all(type(command).__name__ in SETTLED for command in commands):
        return False
    for command in commands:
        _write(world, row, row.sequence, command, number)
    return True


def resolve(world: World, settings: Settings, row: LedgerRow) -> tuple[tuple[Command, ...], int | None]:
    """What follows from an event now, guard rails asked, and the version it is about. Changes nothing."""
    event, own = row.event, settings.for_model(row.event.model)
    facts = hear(world, settings, gather(world, event, row.sequence))
    history = story_so_far(world).of(event.model)
    case = Case(event, row.sequence, history, own.triggers, world.clock.now())
    number = event.version if facts.version is None else facts.version.number
    commands = guard(decide(event, facts, own.policy), case)
    return hold_releases(world, settings, event.model, commands), number


@contextmanager
def warm_children(world: World, settings: Settings) -> Iterator[list[Child]]:
    """Training processes getting ready for the retraining that is about to be decided (none when none is); ended when nobody used them."""
    children: list[Child] = []
    try:
        for row in unhandled(world) if paused(world) is None else ():
            commands, _ = resolve(world, settings, row)
            if any(isinstance(command, Retrain) for command in commands):
                twice = settings.for_model(row.event.model).gates.reproducible
                children.extend(spawn(world.root) for _ in range(2 if twice else 1))
                break
        yield children
    finally:
        for child in children:
            dismiss(child)


def handle(
    world: World,
    project: Project,
    settings: Settings,
    warm: list[Child],
    step: Step,
    sequence: int,
    do: Do = carry_out,
) -> list[int]:
    """The chain of one event: the numbers of the events it led through, itself first. Raises Unavailable, also when the loop is paused.

    The chain of a trigger holds the lease on its model's retraining, and all it writes is fenced by it: when another process took over while
    this one slept, nothing of it is registered or released. ``do`` carries a command out (a simulation has its own).
    """
    stop_if_paused(world)
    row = _row(world, sequence)
    hands = Hands(world, project, settings, killable(step), sequence, warm)
    if row.event.kind not in TRIGGERS:
        return _chain(hands, do)
    lease = world.state.take_lease(f"retrain/{row.event.model}", f"event {sequence} {row.hash[:12]}", LEASE_SECONDS)
    if lease is None:
        if sequence in _look(world)[1]:
            raise Conflict(f"event {sequence} is dealt with by another process", where=row.event.model)
        _give_way(world, row, "running", "another process retrains the model now")
        return [sequence]
    failpoint("chain.leased")
    try:
        if _mark(world) >= sequence:
            return [sequence]  # another process took it over while this one was away, and brought it to its end
        with kept(world, lease, hands.running):
            return _chain(replace(hands, world=replace(world, state=world.state.fenced(lease))), do)
    except Conflict as lost:
        if not world.state.renew_lease(lease):
            _give_way(world, row, "lease_lost", str(lost))
        raise
    finally:
        world.state.release_lease(lease)


def _chain(hands: Hands, do: Do) -> list[int]:
    step, through = hands.step, []
    following: int | None = hands.origin
    reproduced: bool | None = None
    while following is not None:
        cause, following = following, None
        through.append(cause)
        for plain in step(f"decide {cause}", partial(_decide, hands, cause)):
            stop_if_paused(hands.world)
            command = command_from_plain(plain)
            done = do(hands, command, reproduced)
            following, reproduced = done.event, done.reproduced
            if done.refused:
                step(f"refuse {cause}", partial(_refuse, hands, cause, done.refused))
    failpoint("chain.over")
    return through


def _decide(hands: Hands, cause: int) -> list[dict[str, Any]]:
    """Decide, and tell the ledger; what was told before this process was killed stands."""
    told = (row.event for row in hands.world.state.ledger(after=cause) if row.event.kind in (DECIDED, SUPPRESSED))
    before = [e.evidence["plan"] for e in told if (e.evidence["cause"], e.evidence["origin"]) == (cause, hands.origin)]
    if before:
        return before
    row = _row(hands.world, cause)
    commands, number = resolve(hands.world, hands.settings, row)
    for command in commands:
        _write(hands.world, row, hands.origin, command, number)
    return [command_to_plain(command) for command in commands]


def _refuse(hands: Hands, cause: int, why: str) -> int:
    """What a command could not do is a decision too: it stays undone."""
    row = _row(hands.world, cause)
    facts = gather(hands.world, row.event, cause)
    number = row.event.version if facts.version is None else facts.version.number
    return _write(hands.world, row, hands.origin, Nothing(why), number)


def _give_way(world: World, row: LedgerRow, why: str, reason: str) -> None:
    event, trigger = row.event, trigger_of(row.event)
    again = why == "running" and trigger in LASTING
    _write(world, row, row.sequence, Suppress(event.model, reason, why, trigger, again=again), event.version)


def _write(world: World, row: LedgerRow, origin: int, command: Command, version: int | None) -> int:
    evidence = {
        "command": type(command).__name__,
        "cause": row.sequence,
        "origin": origin,
        "plan": command_to_plain(command),
    }
    if isinstance(command, Suppress):
        evidence |= {"why": command.why, "trigger": command.trigger}
    kind = SUPPRESSED if isinstance(command, Suppress) else DECIDED
    fact = Event(kind, world.clock.now(), actor_of(origin), row.event.model, version, command.reason, evidence)
    return world.state.append(fact).sequence


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
