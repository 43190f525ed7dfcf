"""Monitor: a window of what was served, held against the reference of the version that served it; a breach becomes an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ecluse.core.codec import canonical, digest, from_plain, to_plain
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.event import Event
from ecluse.core.model import Model
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.verdict import Verdict
from ecluse.loop.outcomes import classes_of, gather_truths
from ecluse.monitoring.performance import Realised, join, judge_performance, realised, target_shift, unlearnt
from ecluse.monitoring.watch import FeatureShift, Watched, watch
from ecluse.monitoring.window import Record, Window, busiest, by_version, make_window
from ecluse.stats.reference import Reference


@dataclass(frozen=True)
class WindowFacts:
    """What was looked at: predictions, the times and ids at both ends, answers per version, answers with features missing."""

    rows: int
    first: str
    last: str
    ends: tuple[str, str]
    versions: Mapping[int, int]
    degraded: int


@dataclass(frozen=True)
class MonitorReport:
    """``verdict`` says whether the version drifted; ``features`` has a finding per input, ``shifts`` the numbers, ``drifted`` the names.

    ``performance`` is realised on the window so far. ``event`` is the ledger's number of the drift event of this window (None: no breach),
    ``report`` the name of this report as JSON beside the bundle.
    """

    model: str
    version: int
    made: datetime
    window: WindowFacts
    verdict: Verdict
    features: Verdict
    drifted: tuple[str, ...]
    shifts: Mapping[str, FeatureShift]
    scores: FeatureShift | None
    performance: Realised
    event: int | None
    report: str


def monitor(
    world: World,
    settings: Settings,
    model: str,
    *,
    last: int | None = None,
    period: timedelta | None = None,
    actor: str,
) -> MonitorReport:
    """Judge the ``last`` N predictions, or those of a ``period`` up to now; by default what the settings say, else all of the champion's.

    The version that answered most in the window is judged against its own reference. Appends ``monitor.judged``, and ``drift.detected``
    when breached, once per window. Raises NotFound when nothing was ever served, InvalidInput for both ``last`` and ``period``.
    """
    own = settings.for_model(model)
    limits = own.monitoring
    if last is not None and period is not None:
        raise InvalidInput("both a number of predictions and a period", where="monitor", cure="keep one of them")
    if last is None and period is None:
        last, period = limits.last, limits.period
    records = _records(world, model, last, period)
    versions = by_version(records, model)
    number = _judged(world, model, versions, whole=last is None and period is None)
    bundle = world.bundles.get(world.state.version(model, number).bundle)
    window = make_window(model, number, versions, bundle.manifest.split)
    reference = from_plain(Reference, bundle.document("reference.json"), where="reference.json")
    declared = from_plain(Model, bundle.document("declaration.json"), where="declaration.json")
    watched = watch(reference, window, limits)
    truths = gather_truths(world, declared.predicts, model, versions.get(number, []), records)
    joined = join(versions.get(number, []), truths)
    known = realised(declared.task, classes_of(joined.records), unlearnt(joined, bundle.manifest.split), own.costs)
    true = target_shift(reference.target, joined.truths, limits)
    if joined.records or joined.waiting:
        true += judge_performance(declared.task, number, known, limits)
    verdict = Verdict(watched.verdict.question, (*watched.verdict.findings, *true))
    return _record(world, bundle.digest, window, watched, verdict, known, actor)


def _records(world: World, model: str, last: int | None, period: timedelta | None) -> list[Record]:
    """The stretch of the journal: with ``last``, read from its end in growing steps until it holds so many predictions of the model."""
    if last is None:
        since = _since(world.clock.now(), period)
        return list(world.read_predictions(since, None, None))
    if last < 1:
        raise InvalidInput(f"a window of {last} predictions", where="monitor", cure="ask for at least one")
    asked = last
    while True:
        records: list[Record] = list(world.read_predictions(None, None, asked))
        places = [i for i, r in enumerate(records) if r["kind"] == "prediction" and r["model"] == model]
        if len(places) >= last:
            return records[places[-last] :]
        if len(records) < asked:
            return records
        asked *= 4


def _since(now: datetime, period: timedelta | None) -> datetime | None:
    if period is None:
        return None
    if period <= timedelta(0):
        raise InvalidInput("a window of no time", where="monitor", cure="ask for a period above 0")
    try:
        return now - period
    except OverflowError:
        return None  # longer than there is time: everything


def _judged(world: World, model: str, versions: Mapping[int, Sequence[Record]], *, whole: bool) -> int:
    champion = world.state.rollout(model).champion
    number = champion if champion is not None and (whole or not versions) else busiest(versions)
    if number is None:
        raise NotFound(
            f"{model} has not served anything yet", cure="promote a version, start `ecluse serve`, send requests"
        )
    return number


def _record(
    world: World, bundle: str, window: Window, watched: Watched, verdict: Verdict, found: Realised, actor: str
) -> MonitorReport:
    """Tell the ledger, and leave the report beside the bundle."""
    model, version, now = window.model, window.version, world.clock.now()
    facts = WindowFacts(window.rows, window.first, window.last, window.ends, window.versions, window.degraded)
    key = digest({"model": model, "version": version, "ends": window.ends, "rows": window.rows})
    name = f"monitor.{key[:16]}.json"
    evidence = {
        "key": key,
        "bundle": bundle,
        "window": {"rows": facts.rows, "first": facts.first, "last": facts.last, "ends": facts.ends},
        "outcomes": {finding.check: finding.outcome.value for finding in verdict.findings},
        "report": name,
    }
    why = _sentence(verdict)
    world.state.append(Event("monitor.judged", now, actor, model, version, why, evidence))
    event = None
    if verdict.breached:
        numbers = {each.name: each.measured for each in watched.shifts if each.moved}
        event = _detect(
            world, Event("drift.detected", now, actor, model, version, why, evidence | _numbers(verdict, numbers))
        )
    report = MonitorReport(
        model=model,
        version=version,
        made=now,
        window=facts,
        verdict=verdict,
        features=watched.features,
        drifted=watched.drifted,
        shifts={each.name: each for each in watched.shifts},
        scores=watched.scores,
        performance=found,
        event=event,
        report=name,
    )
    world.bundles.write_beside(bundle, name, canonical(report))
    return report


def _numbers(verdict: Verdict, numbers: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    findings = [
        {"check": f.check, "subject": f.subject, "measured": f.measured, "limit": f.limit} for f in verdict.failed
    ]
    return {"findings": to_plain(findings), "inputs": to_plain(numbers)}


def _sentence(verdict: Verdict) -> str:
    said = verdict.failed or [finding for finding in verdict.findings if not finding.passed]
    return "; ".join(finding.why for finding in said) or "nothing moved beyond its limit"


def _detect(world: World, event: Event) -> int:
    """The number of the drift event of this window, appended unless it is there: the same window is one drift, however often looked at."""
    for row in world.state.ledger(model=event.model):
        if row.event.kind == event.kind and row.event.evidence.get("key") == event.evidence["key"]:
            return row.sequence
    return world.state.append(event).sequence
