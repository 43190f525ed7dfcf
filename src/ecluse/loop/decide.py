"""Decide: what follows from an event, by policy. Pure: an event and the facts of the moment in, commands out.

    drift.detected      -> Retrain, or Wait for a person
    trigger.raised      -> the same; a person's own asking is always heard (what holds a retraining back stands in guard.py)
    run.finished        -> Gate (which registers it first), or Wait for a person, or Nothing: it is a version's twin
    run.failed          -> Wait for labels, or Nothing
    version.registered  -> Gate
    version.gated       -> Promote, or Wait for approval, or Nothing: refused by these checks, or no gain on fresh labels
    version.approved    -> Promote, or Wait for the approvals still missing

No command at all means the event needs no decision (any more); then nothing is written to the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecluse.core.approval import Standing, asks_people, say
from ecluse.core.event import Event
from ecluse.core.instants import parse_instant
from ecluse.core.loop_settings import Policy
from ecluse.core.version import GateReport, ModelVersion, Stage
from ecluse.loop.commands import Command, Gate, Nothing, Promote, Retrain, Wait

KINDS = frozenset(
    {
        "drift.detected",
        "trigger.raised",
        "run.finished",
        "run.failed",
        "version.registered",
        "version.gated",
        "version.approved",
    }
)
"""The events that may lead to a decision."""


@dataclass(frozen=True)
class Facts:
    """What is true when the decision is made: the event's own ``sequence``; the ``champion``; the ``version`` the event (or its run) is
    about, with its newest gate ``report`` and, where the policy asks people, what they said (``standing``); the ``run`` concerned, and the
    number of a version with the very same bundle (``twin``).
    """

    sequence: int
    champion: int | None = None
    run: str = ""
    twin: int | None = None
    version: ModelVersion | None = None
    report: GateReport | None = None
    standing: Standing | None = None


def decide(event: Event, facts: Facts, policy: Policy) -> tuple[Command, ...]:
    """The commands that follow. Total: an event of another kind gives none.

    >>> from datetime import UTC, datetime
    >>> drift = Event("drift.detected", datetime(2024, 2, 29, tzinfo=UTC), "ana", "churn", 1, "watch_hours moved")
    >>> decide(drift, Facts(sequence=7, champion=1), Policy())
    (Retrain(model='churn', cause=7, reason='drift of version 1: watch_hours moved'),)
    """
    if event.kind == "drift.detected":
        return (_on_drift(event, facts, policy),)
    if event.kind == "trigger.raised":
        return (_on_trigger(event, facts, policy),)
    if event.kind == "run.failed":
        return (_on_failure(event),)
    if event.kind in ("run.finished", "version.registered"):
        return _on_candidate(event, facts, policy)
    if event.kind in ("version.gated", "version.approved"):
        return _on_verdict(event, facts, policy)
    return ()


def _on_drift(event: Event, facts: Facts, policy: Policy) -> Command:
    if facts.champion != event.version:
        now = "none" if facts.champion is None else f"version {facts.champion}"
        return Nothing(f"version {event.version} drifted, but {now} is in Production")
    if policy.retrain == "manual":
        return Wait(f"retraining is manual: version {event.version} drifted, run `ecluse train`")
    return Retrain(event.model, facts.sequence, f"drift of version {event.version}: {event.reason}")


def _on_trigger(event: Event, facts: Facts, policy: Policy) -> Command:
    if event.version is not None and facts.champion != event.version:
        return Nothing(f"it was about version {event.version}, which is no longer in Production")
    trigger = event.evidence.get("trigger", "")
    if policy.retrain == "manual" and trigger != "manual":
        return Wait(f"retraining is manual: {trigger}: {event.reason}; run `ecluse train`")
    return Retrain(event.model, facts.sequence, f"{trigger}: {event.reason}")


def _on_failure(event: Event) -> Command:
    """A training that ended without a run: only time, or somebody who mends what is wrong, leads to another."""
    until = event.evidence.get("waits_until")
    if isinstance(until, str):
        until = parse_instant(until)
    return Wait(event.reason, until) if until is not None else Nothing(f"no run: {event.reason}")


def _on_candidate(event: Event, facts: Facts, policy: Policy) -> tuple[Command, ...]:
    """A run that is no version yet, or a version that was not judged yet; anything further on was moved by somebody."""
    version = facts.version
    if version is None:
        if not facts.run:
            return ()
        if facts.twin is not None:
            return (Nothing(f"run {facts.run[:12]} made the same bundle as version {facts.twin}"),)
        if policy.register == "manual":
            return (Wait(f"registration is manual: `ecluse versions --register {facts.run[:12]}`"),)
        return (Gate(event.model, facts.run, f"run {facts.run[:12]} is to be judged"),)
    if version.stage is not Stage.NONE or version.pruned or facts.report is not None:
        return ()
    return (Gate(event.model, version.run, f"version {version.number} is to be judged"),)


def _on_verdict(event: Event, facts: Facts, policy: Policy) -> tuple[Command, ...]:
    version, report = facts.version, facts.report
    if version is None or report is None or version.stage not in (Stage.NONE, Stage.STAGING):
        return ()
    if not report.verdict.passed:
        checks = dict.fromkeys(_name(f.check, f.subject) for f in report.verdict.findings if not f.passed)
        return (Nothing(f"version {version.number} refused: {', '.join(checks)}"),)
    if report.champion != facts.champion:
        return (
            Wait(f"version {version.number} was compared with {report.champion}: judge it again with `ecluse gate`"),
        )
    if event.kind == "version.gated" and (no_gain := gains_nothing(event)):
        return (Nothing(f"no gain, version {report.champion} stays: {no_gain}"),)
    if policy.promotion == "manual":
        return (Wait(f"approval: `ecluse promote {version.number} --why …`"),)
    praise = f"gates passed: {_praise(report)}"
    if asks_people(policy):
        if facts.standing is None or not facts.standing.enough:
            missing = "" if facts.standing is None else f"{say(facts.standing)}: "
            return (Wait(f"approval: {missing}`ecluse approve {version.number} --why …`"),)
        praise += "; approved by " + ", ".join(word.who for word in facts.standing.given)
    return (Promote(event.model, version.number, facts.sequence, praise),)


def gains_nothing(event: Event) -> str:
    """Why a version that passed its gates is not worth releasing, by what its judge found on fresh labels; empty when nothing says so."""
    found = event.evidence.get("fresh_gain") or {}
    return str(found.get("why", "")) if found.get("outcome") == "failed" else ""


def _name(check: str, subject: str) -> str:
    return f"{check} {subject}" if subject else check


def _praise(report: GateReport) -> str:
    return f"{len(report.verdict.findings)} findings" + (
        "" if report.champion is None else f", against version {report.champion}"
    )
