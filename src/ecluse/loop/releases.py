"""Releases: what the ledger says of a model's champion, of what was told against it, and of its incidents; a pure fold over its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ecluse.core.event import Event, LedgerRow
from ecluse.core.verdict import Finding, Outcome

MOVES = ("version.promoted", "version.rolled_back")


@dataclass(frozen=True)
class Incident:
    """``number`` is the row that opened it (``opened`` by the wall clock); ``version`` was to be left for ``to``. ``back``: the row that went
    back, None while none has, at ``back_at`` by the project's clock, ``seconds`` later by the wall's.
    """

    number: int
    version: int
    to: int
    opened: datetime | None
    back: int | None = None
    back_at: datetime | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Releases:
    """Up to row ``sequence``: the ``champion``, the row that made it one (``moved``, at ``moved_at``), whether that was a promotion and its
    first one (``first``). ``against``: by check, what was told against it since and is not over. ``said``: keys of what people were already
    called for since. ``returned``: when the loop last took a version back.
    """

    sequence: int = 0
    champion: int | None = None
    moved: int = 0
    moved_at: datetime | None = None
    promoted: bool = False
    first: bool = False
    served: frozenset[int] = frozenset()
    against: Mapping[str, Finding] = field(default_factory=dict)
    said: frozenset[str] = frozenset()
    incident: Incident | None = None
    returned: datetime | None = None


def tell_releases(known: Releases, rows: Iterable[LedgerRow], limits: Mapping[str, float]) -> Releases:
    """What is known with these rows of one model, which follow. ``limits``: least values of business metrics. Linear in the rows.

    >>> tell_releases(Releases(), [], {}).champion is None
    True
    """
    for row in rows:
        known = replace(_told(known, row, limits), sequence=row.sequence)
    return known


def _told(known: Releases, row: LedgerRow, limits: Mapping[str, float]) -> Releases:
    event = row.event
    if event.kind in MOVES:
        return _moved(known, row)
    if event.kind == "drift.detected":
        return _drifted(known, event)
    if event.kind == "monitor.judged":
        return _judged(known, event)
    if event.kind == "outcomes.settled":
        return _settled(known, event)
    if event.kind == "incident.reported":
        return _reported(known, row, limits)
    if event.kind == "alert.raised" and "incident" in event.evidence:
        return replace(known, said=known.said | {str(event.evidence["incident"])})
    if event.kind == "incident.opened" and event.version is not None:
        opened = Incident(row.sequence, event.version, int(event.evidence["to"]), event.recorded)
        return replace(known, incident=opened)
    if event.kind == "incident.closed":
        return replace(known, incident=None)
    return known


def _moved(known: Releases, row: LedgerRow) -> Releases:
    event, incident, returned = row.event, known.incident, known.returned
    if (
        incident is not None
        and incident.back is None
        and (known.champion, event.version) == (incident.version, incident.to)
    ):
        incident = replace(incident, back=row.sequence, back_at=event.time, seconds=_seconds(incident, event))
        returned = event.time
    return replace(
        known,
        champion=event.version,
        moved=row.sequence,
        moved_at=event.time,
        promoted=event.kind == "version.promoted",
        first=event.version not in known.served,
        served=known.served | {event.version or 0},
        against={},
        said=frozenset(),
        incident=incident,
        returned=returned,
    )


def _seconds(incident: Incident, event: Event) -> float | None:
    if incident.opened is None or event.recorded is None:
        return None
    return max((event.recorded - incident.opened).total_seconds(), 0.0)


def _drifted(known: Releases, event: Event) -> Releases:
    """A breach of realised performance alone is ``performance``, every other is ``drift``."""
    if event.version != known.champion:
        return known
    checks = {str(each.get("check", "")) for each in event.evidence.get("findings", ())}
    name = "performance" if checks and checks <= {"performance"} else "drift"
    by = str(event.evidence.get("by", ""))
    return _against(known, name, Finding(name, Outcome.FAILED, event.reason, subject=by))


def _judged(known: Releases, event: Event) -> Releases:
    """A later window in which nothing failed, of enough predictions: the drift told before is over; and realised performance, where as many
    truths as it takes have come and pass. The monitor tells what failed after this, so that it counts.
    """
    if event.version != known.champion:
        return known
    found = dict(event.evidence.get("outcomes", {}))
    over = {"performance"} if found.pop("performance", "") == "passed" else set()
    if "passed" in found.values() and "failed" not in found.values() and found.get("samples") != "inconclusive":
        over.add("drift")
    return _without(known, over)


def _settled(known: Releases, event: Event) -> Releases:
    """All truths of a version pass: over is what all its truths told, not what a window did."""
    told = known.against.get("performance")
    well = event.evidence.get("outcomes", {}).get("performance") == "passed"
    if event.version != known.champion or told is None or not told.subject or not well:
        return known
    return _without(known, {"performance"})


def _without(known: Releases, checks: AbstractSet[str]) -> Releases:
    against = {check: finding for check, finding in known.against.items() if check not in checks}
    return replace(known, against=against)


def _reported(known: Releases, row: LedgerRow, limits: Mapping[str, float]) -> Releases:
    event, told = row.event, row.event.evidence
    if event.version not in (None, known.champion):
        return known
    if "metric" not in told:
        return _against(known, "incident", Finding("incident", Outcome.FAILED, event.reason))
    name, value = str(told["metric"]), float(told["value"])
    if name not in limits:
        return known
    low = value < limits[name]
    why = f"{name} {value:g} {'is below' if low else 'reaches'} {limits[name]:g}"
    outcome = Outcome.FAILED if low else Outcome.PASSED
    return _against(known, "business", Finding("business", outcome, why, value, limits[name], name))


def _against(known: Releases, check: str, finding: Finding) -> Releases:
    return replace(known, against={**known.against, check: finding})


def numbers_of(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as an incident keeps them."""
    return [
        {"check": f.check, "subject": f.subject, "measured": f.measured, "limit": f.limit, "why": f.why}
        for f in findings
    ]
