"""Incident: what follows when a release does harm. Pure: what the ledger knows and a Verdict in, one step out.

It is taken back by itself, once, and a person is called for everything beyond that; while an incident lasts the loop releases nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecluse.core.instants import format_duration
from ecluse.core.loop_settings import Rollback
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Verdict
from ecluse.loop.commands import Command, Promote, Wait
from ecluse.loop.releases import Incident, Releases, tell_releases

REPORTED = ("business", "incident")
"""What another system says of the champion holds whenever it says so."""


@dataclass(frozen=True)
class Open:
    """Open an incident and go back to version ``to``."""

    to: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class GoOn:
    """Do what an incident was opened for."""

    incident: Incident


@dataclass(frozen=True)
class Close:
    """The incident is over."""

    why: str


@dataclass(frozen=True)
class Call:
    """Call a person, once for each ``key`` of a release."""

    key: str
    why: str


Step = Open | GoOn | Close | Call


def what_follows(
    known: Releases, verdict: Verdict, limits: Rollback, targets: Sequence[int], now: datetime
) -> Step | None:
    """What a look at the champion leads to; None: nothing. ``targets``: versions one can go back to, the next one first.

    A version is taken back only while its release is young (what another system reports counts always), never twice within the
    cool-down, and never when it is itself what was gone back to: then a person is called.
    """
    if known.champion is None or known.moved_at is None:
        return None
    if known.incident is not None and (over := _over(known, verdict, limits, now)):
        return over
    young = now - known.moved_at < limits.watch
    failed = tuple(f for f in verdict.failed if young or f.check in REPORTED)
    old = tuple(f for f in verdict.failed if f not in failed)
    if not failed:
        return _call(known, "old", old, "it was released too long ago to be taken back by itself") if old else None
    if not known.promoted:
        return _call(known, "again", failed, "it is the version that was gone back to")
    if known.returned is not None and now - known.returned < limits.cool_down:
        span = format_duration(limits.cool_down)
        return _call(known, "cool_down", failed, f"another was taken back less than {span} ago")
    if not targets:
        return _call(known, "nowhere", failed, "there is no version to go back to")
    return Open(targets[0], failed)


def _over(known: Releases, verdict: Verdict, limits: Rollback, now: datetime) -> GoOn | Close | None:
    incident = known.incident
    assert incident is not None
    if incident.back is None:
        if known.champion == incident.version:
            return GoOn(incident)
        return Close(f"version {known.champion} was put into Production meanwhile")
    assert incident.back_at is not None
    if known.moved != incident.back:
        return Close(f"version {known.champion} was put into Production by a decision of its own")
    if verdict.breached or now - incident.back_at < limits.calm:
        return None
    kept = incident.seconds is not None and incident.seconds <= limits.within.total_seconds()
    said = f"version {incident.to} serves without a breach for {format_duration(limits.calm)}"
    return Close(
        f"{said}; taken back {'within' if kept else 'later than'} the declared {format_duration(limits.within)}"
    )


def _call(known: Releases, key: str, findings: Sequence[Finding], why: str) -> Call | None:
    name = f"{known.moved}/{key}"
    if name in known.said:
        return None
    return Call(name, f"version {known.champion} {said_of(findings)}, and stays: {why}")


def said_of(findings: Sequence[Finding]) -> str:
    """What was breached, in one sentence."""
    return "breaches " + "; ".join(f"{f.check}: {f.why}" for f in findings)


def calm(known: Releases, limits: Rollback, commands: Sequence[Command], now: datetime) -> tuple[Command, ...]:
    """The commands of the loop with no release among them while an incident is open or its cool-down lasts: then a person decides."""
    why = ""
    if known.incident is not None:
        why = f"incident {known.incident.number} is open"
    elif known.returned is not None and now - known.returned < limits.cool_down:
        why = f"a release was taken back less than {format_duration(limits.cool_down)} ago"
    if not why:
        return tuple(commands)
    return tuple(
        Wait(f"{why}: a person releases with `ecluse promote {each.version} --why …`")
        if isinstance(each, Promote)
        else each
        for each in commands
    )


def hold_releases(world: World, settings: Settings, model: str, commands: Sequence[Command]) -> tuple[Command, ...]:
    """:func:`calm` by the ledger as it is now; read only when there is a release among the commands."""
    if not any(isinstance(each, Promote) for each in commands):
        return tuple(commands)
    limits = settings.for_model(model).rollback
    known = tell_releases(Releases(), world.state.ledger(model=model), limits.metrics)
    return calm(known, limits, commands, world.clock.now())
