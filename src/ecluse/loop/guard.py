"""Guard: what holds a retraining back. Pure: an event, the commands it led to, the model's history and the settings in, commands out.

A retraining that may not begin becomes a ``Suppress`` with its reason; a training that failed is tried again later, and in the end a person is
called. Every rule asks the project's clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ecluse.core.event import Event
from ecluse.core.instants import format_duration, format_instant
from ecluse.core.loop_settings import Triggers
from ecluse.loop.commands import Alert, Command, Nothing, Retrain, Suppress, Wait
from ecluse.loop.triggers import LASTING, Deferred, History, Start, key_of, of_window, origin_of, trigger_of

DAY = timedelta(days=1)
WORSE = 4.0
"""So many times as far past its limit as when a candidate was refused, a breach is another one."""
_URGENT = ("manual", "retry")
"""What waits for no debounce, no hysteresis and no cool-down: a person means now, and a retry has waited already."""


@dataclass(frozen=True)
class Case:
    """One trigger (event number ``sequence``) before its judges, ``now``."""

    event: Event
    sequence: int
    history: History
    triggers: Triggers
    now: datetime

    @property
    def trigger(self) -> str:
        """What kind it is."""
        return trigger_of(self.event)

    @property
    def begun(self) -> tuple[Start, ...]:
        """Other chains' retrainings of the last 24 hours; one that a clock set back left in the future counts as of now."""
        starts = (start for start in self.history.starts if start.origin != self.sequence)
        return tuple(start for start in starts if self.now - min(start.time, self.now) < DAY)


def guard(commands: Sequence[Command], case: Case) -> tuple[Command, ...]:
    """The commands with what may not be done now taken out, each with its reason.

    >>> from datetime import UTC
    >>> now = datetime(2024, 2, 29, tzinfo=UTC)
    >>> case = Case(Event("drift.detected", now, "ana", "churn", 1), 9, History(), Triggers(on=("manual",)), now)
    >>> guard([Retrain("churn", 9, "drift of version 1")], case)[0].why
    'off'
    """
    return tuple(_guarded(command, case) for command in commands)


def _guarded(command: Command, case: Case) -> Command:
    if case.event.kind in ("run.finished", "run.failed") and _late(case):
        return Nothing(f"event {origin_of(case.event)} was brought to its end by another process")
    if isinstance(command, Retrain):
        return next((no for rule in RULES if (no := rule(case)) is not None), command)
    if case.event.kind == "run.failed" and case.history.failed == case.sequence and isinstance(command, Nothing):
        return _after_failure(case)
    return command


def _late(case: Case) -> bool:
    """Whether a training ended that another process had followed already: its own had slept past its lease."""
    origin = origin_of(case.event)
    return any(s.origin == origin and s.ended not in (0, case.sequence) for s in case.history.starts)


def _after_failure(case: Case) -> Command:
    """Another attempt later, or a person."""
    failures, most = case.history.failures, case.triggers.attempts
    if failures >= most:
        said = f"{failures} trainings in a row failed, the loop gave up: {case.event.reason}"
        return Alert(case.event.model, f"{said}; mend it, then `ecluse loop trigger`")
    wait = backoff(case.triggers, failures, f"{case.event.model}/{case.sequence}")
    return Wait(f"attempt {failures} of {most} failed: {case.event.reason}", case.now + wait)


def backoff(triggers: Triggers, failures: int, seed: str) -> timedelta:
    """How long to wait after so many failures in a row: doubled each time, capped, then up to a quarter more or less, by ``seed``, so that
    many models (and a decision made twice) neither meet at once nor differ.

    >>> backoff(Triggers(), 1, "churn/7") == backoff(Triggers(), 1, "churn/7")
    True
    """
    doubled = triggers.backoff * (1 << min(max(failures - 1, 0), 30))
    jitter = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
    return min(doubled, triggers.backoff_most) * (0.75 + jitter / 2)


# ------------------------------------------------------------------------------------------------------------- the rules, in order


def _off(case: Case) -> Suppress | None:
    on = case.triggers.on
    if case.trigger in (*on, "retry"):
        return None
    return _no(case, "off", f"{case.trigger} is not among the triggers that may act: {', '.join(on) or 'none'}")


def _same_cause(case: Case) -> Suppress | None:
    first = case.history.keys.get(key_of(case.event), case.sequence)
    return None if first >= case.sequence else _no(case, "same_cause", f"the same cause as event {first}")


def _running(case: Case) -> Suppress | None:
    """The retraining under way may know nothing of it: what nobody says again is asked again when that has ended."""
    running = case.history.running
    if running is None or running.origin == case.sequence:
        return None
    said = f"a retraining runs already, of event {running.origin}"
    return _no(case, "running", said, again=case.trigger in LASTING)


def _failing(case: Case) -> Suppress | None:
    history, until = case.history, case.history.retry_at
    if case.trigger == "manual" or not history.failures:
        return None
    if history.failures >= case.triggers.attempts:
        return _no(case, "gave_up", f"{history.failures} trainings in a row failed: `ecluse loop trigger` begins again")
    if until is None or case.now >= until:
        return None
    said = f"a training failed, the next begins at {format_instant(until)}"
    return _no(case, "backing_off", said, until if case.trigger == "retry" else None)


def _hysteresis(case: Case) -> Suppress | None:
    most, streak = case.triggers.hysteresis, case.history.streak
    watched = case.trigger in ("drift", "performance") and of_window(case.event)
    if not watched or most == 1 or streak >= most:
        return None
    return _no(case, "hysteresis", f"{streak} of {most} windows in a row breached")


def _debounced(case: Case) -> Suppress | None:
    wait = case.triggers.debounce
    if not wait or case.trigger in _URGENT or "deferred" in case.event.evidence:
        return None
    later: Deferred | None = case.history.deferred
    until = case.now + wait if later is None or later.until is None else min(later.until, case.now + wait)
    return _no(case, "debounced", f"{case.event.reason} (waits for others until {format_instant(until)})", until, True)


def _cool_down(case: Case) -> Suppress | None:
    starts = [start for start in case.history.starts if start.origin != case.sequence]
    if case.trigger in _URGENT or not starts:
        return None
    until = min(starts[-1].time, case.now) + case.triggers.cool_down
    if case.now >= until:
        return None
    span = format_duration(case.triggers.cool_down)
    return _no(case, "cool_down", f"cool-down: event {starts[-1].origin} retrained less than {span} ago", until)


def _refused(case: Case) -> Suppress | None:
    """A monitor that says again what the last candidates did not cure: the cool-down doubles with each of them, until a release. What is new, or
    four times as far past its limit as when they were refused, is another matter.
    """
    refused, past = case.history.refused, case.history.past
    if case.trigger not in ("drift", "performance") or not refused:
        return None
    worst = {check: max(start.past.get(check, 0.0) for start in refused) for check in past}
    if any(far > WORSE * worst[check] for check, far in past.items()):
        return None
    doubled = case.triggers.cool_down * (1 << min(len(refused), 30))
    until = min(refused[-1].time, case.now) + min(doubled, case.triggers.refused_most)
    if case.now >= until:
        return None
    candidates = "a candidate was" if len(refused) == 1 else f"{len(refused)} candidates in a row were"
    return _no(case, "refused", f"{candidates} refused, and it is no worse than then", until)


def _per_day(case: Case) -> Suppress | None:
    begun, most = case.begun, case.triggers.per_day
    if len(begun) < most:
        return None
    until = min(begun[-most].time, case.now) + DAY
    return _no(case, "budget", f"budget: {len(begun)} of {most} retrainings in 24 hours", until)


def _compute(case: Case) -> Suppress | None:
    begun, most = case.begun, case.triggers.compute_minutes * 60
    spent = sum(start.seconds for start in begun)
    expected = begun[-1].seconds if begun else 0.0
    if not most or not begun or spent + expected <= most:
        return None
    until = min(begun[0].time, case.now) + DAY
    said = (
        f"budget: {spent / 60:.1f} of {most / 60:g} minutes trained in 24 hours, the next may take {expected / 60:.1f}"
    )
    return _no(case, "compute", said, until)


def _no(case: Case, why: str, reason: str, until: datetime | None = None, again: bool | None = None) -> Suppress:
    again = until is not None and case.trigger in LASTING if again is None else again
    return Suppress(case.event.model, reason, why, case.trigger, until, again)


RULES: tuple[Callable[[Case], Suppress | None], ...] = (
    _off,
    _same_cause,
    _running,
    _failing,
    _hysteresis,
    _debounced,
    _cool_down,
    _refused,
    _per_day,
    _compute,
)
"""Asked in this order; the first that says no gives the reason."""
