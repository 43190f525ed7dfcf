"""Triggers: what the ledger says of each model's retrainings, as a pure fold over its rows, and which triggers are due by it.

The order of rows is their sequence, never their clock: when a clock was set back, what a row says happened earlier counts as having happened
no later than the rows after it, so that a jump neither hides a retraining nor holds the next one back for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ecluse.core.event import Event, LedgerRow
from ecluse.core.instants import format_duration, parse_instant
from ecluse.core.loop_settings import MOST_PER_DAY, Triggers

DECISIONS = ("loop.decided", "trigger.suppressed")
LASTING = ("schedule", "new_data", "slo", "outside", "retry")
"""Triggers that nobody raises again: held back for a time, they are looked at again when it is over. A monitor speaks up by itself."""


@dataclass(frozen=True)
class Start:
    """A retraining that was decided: by the chain of event ``origin``, at ``time``; ``seconds`` it trained, once it has ``ended`` (by that row).
    ``past`` are the limits passed by then; what it made was ``refused`` by that row (0: it was not). ``tables``: rows each was given by then.
    """

    origin: int
    time: datetime
    seconds: float = 0.0
    ended: int = 0
    past: Mapping[str, float] = field(default_factory=dict)
    refused: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Deferred:
    """A cause that is to be looked at again at ``until`` (None: when the retraining under way has ended): ``cause`` is the row that said so,
    ``trigger`` what asks then.
    """

    cause: int
    until: datetime | None
    trigger: str
    reason: str
    version: int | None = None


@dataclass(frozen=True)
class History:
    """One model's past. ``failures`` in a row of the loop's trainings; ``failed`` the row of the newest, ``retry_at`` when the
    next attempt may begin; ``keys`` the first row of each cause;
    ``streak`` windows breached in a row, none of the rows of another, ``counted`` the last of them; ``past`` how far the newest window, and
    all truths since, lie past each limit; ``gated`` the row of the newest judgement, ``released`` that of the newest change of champion;
    ``trained`` the rows each table had been given when the newest training began, which ended at ``trained_at`` by row ``trained_by``.
    """

    starts: tuple[Start, ...] = ()
    failures: int = 0
    failed: int = 0
    retry_at: datetime | None = None
    keys: Mapping[str, int] = field(default_factory=dict)
    streak: int = 0
    counted: Mapping[str, Any] = field(default_factory=dict)
    window: str = ""
    breached: bool = False
    watched: int | None = None
    past: Mapping[str, float] = field(default_factory=dict)
    gated: int = 0
    released: int = 0
    deferred: Deferred | None = None
    trained: Mapping[str, int] = field(default_factory=dict)
    trained_at: datetime | None = None
    trained_by: int = 0

    @property
    def running(self) -> Start | None:
        """The retraining that has not ended."""
        return next((start for start in reversed(self.starts) if not start.ended), None)

    @property
    def refused(self) -> tuple[Start, ...]:
        """The retrainings whose candidates were refused since the champion was released, oldest first."""
        return tuple(start for start in self.starts if start.refused > self.released)


@dataclass(frozen=True)
class Story:
    """All models' histories up to row ``sequence`` (whose ``hash`` names the ledger), and the rows each table was given."""

    sequence: int = 0
    hash: str = ""
    tables: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, History] = field(default_factory=dict)

    def of(self, model: str) -> History:
        """A model's history."""
        return self.models.get(model, NEW)


NEW = History()


def tell(story: Story, rows: Iterable[LedgerRow]) -> Story:
    """The story with these rows, which follow it in the ledger. Linear in the rows.

    >>> tell(Story(), []).of("churn").starts
    ()
    """
    tables, models = dict(story.tables), dict(story.models)
    for row in rows:
        story = replace(story, sequence=row.sequence, hash=row.hash)
        event = row.event
        if event.kind == "data.ingested":
            name = str(event.evidence.get("table", ""))
            tables[name] = tables.get(name, 0) + int(event.evidence.get("rows", 0))
        elif event.model and (change := _CHANGES.get(event.kind)) is not None:
            models[event.model] = change(models.get(event.model, NEW), row, tables)
    return replace(story, tables=tables, models=models)


def trigger_of(event: Event) -> str:
    """What kind of trigger an event is: a breach of realised performance alone is ``performance``.

    >>> from datetime import UTC, datetime
    >>> trigger_of(
    ...     Event("trigger.raised", datetime(2024, 1, 31, tzinfo=UTC), "ana", "churn", evidence={"trigger": "manual"})
    ... )
    'manual'
    """
    if event.kind == "drift.detected":
        checks = {str(finding.get("check", "")) for finding in event.evidence.get("findings", ())}
        return "performance" if checks and checks <= {"performance"} else "drift"
    return str(event.evidence.get("trigger") or event.kind)


def of_window(event: Event) -> bool:
    """Whether a breach is one window's, which the next may show to be chance; else it is of all truths there are, or waited already."""
    return not {"by", "deferred"} & event.evidence.keys()


def key_of(event: Event) -> str:
    """What makes two triggers the same cause; empty where nothing does."""
    return str(event.evidence.get("key") or "")


def past_of(event: Event) -> dict[str, float]:
    """How far a breach lies past each limit it passed, by check and subject.

    >>> from datetime import UTC, datetime
    >>> auc = {"check": "performance", "subject": "roc_auc", "measured": 0.75, "limit": 0.875}
    >>> past_of(Event("drift.detected", datetime(2024, 1, 31, tzinfo=UTC), "ana", evidence={"findings": [auc]}))
    {'performance roc_auc': 0.125}
    """
    known = [each for each in event.evidence.get("findings", ()) if isinstance(each.get("measured"), int | float)]
    return {
        f"{f['check']} {f['subject']}": abs(f["measured"] - f["limit"]) for f in known if f.get("limit") is not None
    }


@dataclass(frozen=True)
class Due:
    """A trigger to raise: ``key`` makes it one cause however often it is looked at, ``deferred`` is the row it comes from, and with a
    ``version`` it holds only while that one is champion.
    """

    trigger: str
    key: str
    reason: str
    deferred: int = 0
    version: int | None = None


def due(history: History, triggers: Triggers, now: datetime, *, tables: Mapping[str, int]) -> list[Due]:
    """The triggers to raise now: what was deferred until now, the schedule, and data that is new since the newest training.

    ``tables``: rows each table of the model's labels was given by now. Nothing is due while a retraining runs, nor twice for one cause.
    """
    if history.running is not None:
        return []
    found = [*_deferred(history, now), *_scheduled(history, triggers, now), *_grown(history, triggers, tables)]
    return [each for each in found if each.key not in history.keys]


def _deferred(history: History, now: datetime) -> list[Due]:
    later = history.deferred
    if later is None or (later.until is not None and now < later.until):
        return []
    return [Due(later.trigger, f"deferred/{later.cause}", later.reason, later.cause, later.version)]


def _scheduled(history: History, triggers: Triggers, now: datetime) -> list[Due]:
    last = history.trained_at
    if triggers.every is None or last is None or now - last < triggers.every:
        return []
    return [Due("schedule", f"schedule/{history.trained_by}", f"trained {format_duration(now - last)} ago")]


def _grown(history: History, triggers: Triggers, tables: Mapping[str, int]) -> list[Due]:
    """A training whose candidate was refused counts too: it knew these rows, and the rows after it are another cause."""
    since = history.trained_by
    if not since:
        return []
    found = []
    for name, rows in tables.items():
        had = history.trained.get(name, 0)
        more = rows - had
        enough = bool(triggers.new_rows) and more >= triggers.new_rows
        enough |= bool(triggers.new_share) and had > 0 and more / had >= triggers.new_share
        if enough:
            found.append(
                Due("new_data", f"new_data/{name}/{since}", f"{more:,} rows of {name} since the {had:,} before")
            )
    return found[:1]


# ------------------------------------------------------------------------------------------------------ what each fact changes


def _raised(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    history = _cause(history, row)
    if trigger_of(row.event) == "manual":
        history = replace(history, failures=0)
    later = history.deferred
    if later is not None and row.event.evidence.get("deferred") == later.cause:
        history = replace(history, deferred=None)
    return history


def _cause(history: History, row: LedgerRow) -> History:
    key = key_of(row.event)
    if not key or key in history.keys:
        return history
    return replace(history, keys={**history.keys, key: row.sequence})


def _judged(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    window, version = key_of(row.event), row.event.version
    if window == history.window:
        return history
    calm = not history.breached or version != history.watched
    return replace(
        history, window=window, breached=False, past={}, watched=version, streak=0 if calm else history.streak
    )


def _drifted(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    past = past_of(row.event)
    if not of_window(row.event):
        return replace(_cause(history, row), past={**history.past, **past})
    history = replace(_cause(_judged(history, row, tables), row), past=past)
    if history.breached:
        return history
    history, window = replace(history, breached=True), row.event.evidence.get("window") or {}
    if history.streak and not _apart(window, history.counted):
        return history
    return replace(history, streak=history.streak + 1, counted=window)


def _apart(window: Mapping[str, Any], counted: Mapping[str, Any]) -> bool:
    """Whether a window says something of its own: it begins after the last one counted ended (the rule of ``monitoring/trend.py``), or, a window
    of all predictions so far, it has doubled since. One that does not say where it begins and ends counts.
    """
    if not {"first", "last", "rows"} <= window.keys() & counted.keys():
        return True
    doubled = window["first"] == counted["first"] and window["rows"] >= 2 * counted["rows"]
    return bool(doubled or window["first"] > counted["last"])


def _decided(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    plan, origin = row.event.evidence.get("plan", {}), int(row.event.evidence.get("origin", 0))
    history = _clamped(history, row.event.time)
    kind = plan.get("kind")
    if kind == "Nothing":
        return _gained_nothing(history, row, origin)
    if kind == "Retrain" and all(start.origin != origin for start in history.starts):
        start = Start(origin, row.event.time, past=history.past, tables=dict(tables))
        starts = (*history.starts, start)[-MOST_PER_DAY:]
        return replace(history, starts=starts, deferred=None, streak=0, breached=False)
    if kind == "Wait" and plan.get("until") and row.event.evidence.get("cause") == history.failed:
        history = replace(history, retry_at=parse_instant(str(plan["until"])))
    return replace(history, deferred=_later(history, row, plan))


def _gained_nothing(history: History, row: LedgerRow, origin: int) -> History:
    """A chain that trained and ends with nothing: its candidate was refused, gained nothing, or is another version's twin."""
    cause = row.event.evidence.get("cause")
    starts = (
        replace(start, refused=row.sequence)
        if start.origin == origin and cause in (start.ended, history.gated) and cause != history.failed
        else start
        for start in history.starts
    )
    return replace(history, starts=tuple(starts))


def _gated(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    return replace(history, gated=row.sequence)


def _released(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    return replace(history, released=row.sequence)


def _later(history: History, row: LedgerRow, plan: Mapping[str, object]) -> Deferred | None:
    """What is to be looked at again: what was deferred already and what this decision defers, as one."""
    until, before = plan.get("until"), history.deferred
    retry = plan.get("kind") == "Wait" and bool(until) and row.event.evidence.get("cause") == history.failed
    if not plan.get("again") and not retry:
        return before
    trigger = "retry" if retry else str(plan["trigger"])
    said = str(plan["reason"]) if retry else f"asked before and held back: {plan['reason']}"
    at = parse_instant(str(until)) if until else None
    later = Deferred(row.sequence, at, trigger, said, row.event.version)
    return later if before is None else _merged(before, later)


def _merged(before: Deferred, later: Deferred) -> Deferred:
    """One for both, so that none is lost: at the earlier time, and in the name of the one that holds longer. A retry answers every other cause too;
    what a monitor would say again, and what is about one version, goes behind what nobody says again, and what is about none.
    """
    if "retry" in (before.trigger, later.trigger):
        return later if later.trigger == "retry" else before
    holds = max(before, later, key=lambda each: (each.trigger in LASTING, each.version is None))
    until = None if before.until is None or later.until is None else min(before.until, later.until)
    return replace(holds, until=until, version=before.version if before.version == later.version else None)


def _clamped(history: History, now: datetime) -> History:
    """Nothing happened later than what follows it: the clock was set back in between."""
    if history.starts and history.starts[-1].time > now:
        history = replace(history, starts=tuple(replace(s, time=min(s.time, now)) for s in history.starts))
    if history.trained_at is not None and history.trained_at > now:
        history = replace(history, trained_at=now)
    return history


def _finished(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    event, origin = row.event, origin_of(row.event)
    history = _ended(history, row, float(event.evidence.get("seconds", 0.0)))
    # What came while it trained, it did not see; when a person's own training began, nobody told.
    known = next((start.tables for start in history.starts if start.origin == origin), dict(tables))
    return replace(history, failures=0, trained=known, trained_at=event.time, trained_by=row.sequence)


def _failed(history: History, row: LedgerRow, tables: Mapping[str, int]) -> History:
    origin, event = origin_of(row.event), row.event
    if not any(start.origin == origin and not start.ended for start in history.starts):
        return history  # a person's own training, or one of a process that was followed by another
    history = _ended(history, row, float(event.evidence.get("seconds", 0.0)))
    early = event.evidence.get("waits_until") is not None
    return replace(history, failed=row.sequence, failures=history.failures + (not early))


def _ended(history: History, row: LedgerRow, seconds: float) -> History:
    origin = origin_of(row.event)
    if not any(start.origin == origin and not start.ended for start in history.starts):
        return history
    ended = (replace(s, ended=row.sequence, seconds=seconds) if s.origin == origin else s for s in history.starts)
    return replace(history, starts=tuple(ended))


def origin_of(event: Event) -> int:
    """The event whose chain told this; 0 when a person did.

    >>> origin_of(Event("run.finished", datetime(2024, 1, 31), "loop, event 7"))
    7
    """
    word, _, number = event.actor.rpartition(" ")
    return int(number) if word == "loop, event" and number.isdigit() else 0


_CHANGES = {
    "trigger.raised": _raised,
    "drift.detected": _drifted,
    "monitor.judged": _judged,
    "loop.decided": _decided,
    "trigger.suppressed": _decided,
    "run.finished": _finished,
    "run.failed": _failed,
    "version.gated": _gated,
    "version.promoted": _released,
    "version.rolled_back": _released,
}
