"""The kill switch: a paused loop decides nothing, and trainings under way are ended within seconds; what was begun goes on after `resume`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from ecluse.core.codec import canonical, from_plain
from ecluse.core.errors import NotAllowed, Unavailable
from ecluse.core.event import Event
from ecluse.core.ports import World

KEY = "loop.paused"
"""Where the state remembers it, written in one transaction with the fact: one read tells, however long the ledger."""


@dataclass(frozen=True)
class Paused:
    """Who paused the loop, when and why."""

    by: str
    at: datetime
    why: str


def pause(world: World, *, reason: str, actor: str) -> Paused:
    """Stop the loop. Raises NotAllowed when it is paused, Conflict when somebody did so at this moment."""
    before = world.state.meta(KEY)
    if before:
        raise NotAllowed(said(_read(before)), where="loop", cure="let it go on with `ecluse loop resume`")
    now = world.clock.now()
    paused = Paused(actor, now, reason)
    world.state.swap_meta(KEY, before, canonical(paused).decode(), Event("loop.paused", now, actor, reason=reason))
    return paused


def resume(world: World, *, reason: str, actor: str) -> Paused:
    """Let it go on; returns what ended. Raises NotAllowed when it is not paused, Conflict."""
    before = world.state.meta(KEY)
    if not before:
        raise NotAllowed("the loop is not paused", where="loop")
    event = Event("loop.resumed", world.clock.now(), actor, reason=reason)
    world.state.swap_meta(KEY, before, "", event)
    return _read(before)


def paused(world: World) -> Paused | None:
    """Whether the loop is paused, by whom and why."""
    text = world.state.meta(KEY)
    return _read(text) if text else None


def said(pause: Paused) -> str:
    """For people.

    >>> from datetime import UTC
    >>> said(Paused("ana", datetime(2024, 2, 29, tzinfo=UTC), "audit"))
    'the loop is paused by ana since 2024-02-29T00:00:00+00:00: audit'
    """
    return f"the loop is paused by {pause.by} since {pause.at.isoformat()}: {pause.why}"


def stop_if_paused(world: World) -> None:
    """Raises Unavailable when the loop is paused: what was begun stays begun."""
    if (pause := paused(world)) is not None:
        raise Unavailable(said(pause), where="loop", cure="let it go on with `ecluse loop resume`")


def _read(text: str) -> Paused:
    return from_plain(Paused, json.loads(text), where="state: loop.paused")
