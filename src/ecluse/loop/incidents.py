"""Incidents: what the ledger tells of each, gathered from the facts that opened it, went back and closed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from ecluse.core.ports import World


@dataclass(frozen=True)
class Told:
    """An incident: its ``number``, the ``version`` that did harm by these ``findings``, the one gone back ``to``, and how long that took."""

    number: int
    time: datetime
    model: str
    version: int | None
    to: int
    why: str
    findings: Sequence[dict[str, Any]]
    answers: int
    failures: dict[str, int]
    seconds: float | None = None
    state: Literal["open", "taken back", "closed"] = "open"
    end: str = ""


def incidents(world: World) -> list[Told]:
    """Every incident, newest first. Linear in the ledger."""
    found: dict[int, Told] = {}
    current: dict[str, int] = {}
    opened: dict[int, datetime | None] = {}
    for row in world.state.ledger():
        event, told = row.event, row.event.evidence
        number = current.get(event.model)
        if event.kind == "incident.opened":
            current[event.model] = row.sequence
            opened[row.sequence] = event.recorded
            found[row.sequence] = Told(
                number=row.sequence,
                time=event.time,
                model=event.model,
                version=event.version,
                to=int(told["to"]),
                why=event.reason,
                findings=[dict(each) for each in told.get("findings", ())],
                answers=int(told.get("answers", 0)),
                failures=dict(told.get("failures", {})),
            )
        elif number is not None and event.kind == "version.rolled_back" and event.version == found[number].to:
            begun, done = opened[number], event.recorded
            seconds = (done - begun).total_seconds() if begun is not None and done is not None else None
            found[number] = replace(found[number], state="taken back", seconds=seconds)
        elif number is not None and event.kind == "incident.closed":
            found[number] = replace(found[number], state="closed", end=event.reason)
            del current[event.model]
    return list(reversed(found.values()))
