"""Chain: the judged windows of a model that do not overlap, read off the ledger; what was read once is remembered."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ecluse.core.codec import canonical, from_plain
from ecluse.core.errors import DeclarationError
from ecluse.core.event import LedgerRow
from ecluse.core.ports import World
from ecluse.monitoring.trend import Point, chain

KEPT = 100


@dataclass(frozen=True)
class Remembered:
    """The chain up to a row of the ledger."""

    after: int = 0
    points: tuple[Point, ...] = ()


def windows_in_a_row(world: World, model: str, window: Point, windows: int) -> tuple[Point, ...]:
    """The last ``windows`` of the chain that ends with this window; none when the window overlaps the last one of the chain.

    The ledger is the record; where the chain has got to is remembered, so that a look reads what was told since.
    """
    past = _remembered(world, model)
    points, after = list(past.points), past.after
    for row in world.state.ledger(model=model, after=past.after):
        after = row.sequence
        point = _point(row)
        if point is not None and (not points or point.first > points[-1].last):
            points.append(point)
    now = Remembered(after, tuple(points[-KEPT:]))
    if now != past:
        world.state.set_meta(_key(model), canonical(now).decode())
    # the same window looked at again gets the same answer
    again = [
        each
        for each in now.points
        if (each.first, each.last, each.version) != (window.first, window.last, window.version)
    ]
    found = chain([*again, window], windows)
    return found if found and found[-1] == window else ()


def _point(row: LedgerRow) -> Point | None:
    evidence = row.event.evidence
    window, series = evidence.get("window"), evidence.get("series")
    if row.event.kind != "monitor.judged" or window is None or series is None or not window["rows"]:
        return None
    return Point(window["first"], window["last"], row.event.version or 0, window["rows"], dict(series))


def _remembered(world: World, model: str) -> Remembered:
    try:
        return from_plain(Remembered, json.loads(world.state.meta(_key(model)) or "{}"))
    except (ValueError, DeclarationError):
        return Remembered()


def _key(model: str) -> str:
    return f"monitor.chain.{model}"
