"""The data clock, moved on by hand: freshness, windows and label maturity follow it."""

from __future__ import annotations

from datetime import datetime

from ecluse.core.errors import NotAllowed, NotFound
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.publish import publish


def set_clock(world: World, settings: Settings, moment: datetime, *, actor: str) -> datetime:
    """Move a data clock on to ``moment``; workers follow. Raises NotAllowed for a system clock or a step back."""
    if settings.time.now != "data":
        raise NotAllowed("the project runs on the system clock", where="ecluse.toml", cure='set [time] now = "data"')
    before = _before(world)
    if before is not None and moment < before:
        raise NotAllowed(
            f"{format_instant(moment)} is before the clock", where=format_instant(before), cure="time only goes on"
        )
    world.clock.advance(moment)
    world.state.append(Event("clock.set", moment, actor, evidence={"from": before, "to": moment}))
    publish(world, settings)
    return world.clock.now()


def _before(world: World) -> datetime | None:
    """Where the clock stands; None while nobody has set it."""
    try:
        return world.clock.now()
    except NotFound:
        return None
