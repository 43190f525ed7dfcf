"""Monitor: a window of what was served, held against the reference of the version that served it; a breach becomes an event."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ecluse.core.codec import canonical, digest, to_plain
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.loop.chain import windows_in_a_row
from ecluse.loop.once import tell_once
from ecluse.loop.outcomes import classes_of, gather_truths
from ecluse.loop.stretch import Stretch, look
from ecluse.monitoring.bars import Bars, bars_of
from ecluse.monitoring.performance import (
    Realised,
    join,
    judge_performance,
    missed_by_estimate,
    realised,
    target_shift,
    unlearnt,
)
from ecluse.monitoring.trend import Point, judge_trend, values_of
from ecluse.monitoring.watch import FeatureShift, SegmentShift, Watched, judge

REPORTS = 500
"""So many reports lie beside a version, the newest ones: judged every minute, some 90 MB came of a day."""


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

    ``performance`` is realised on the window so far. ``segments`` are the declared ones with enough rows, ``windows`` the chain of windows that
    do not overlap up to this one, ``bars`` the shares of each input and the scores (``"score"``) before and now. ``event`` is the
    ledger's number of the drift event of this window (None: no breach), ``report`` the name of this report as JSON beside the bundle.
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
    segments: tuple[SegmentShift, ...] = ()
    windows: tuple[Point, ...] = ()
    bars: Mapping[str, Bars] = field(default_factory=dict)


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
    stretch = look(world, own, model, last, period)
    against, sketch = stretch.against, stretch.sketch
    weights = _importance(world, stretch.bundle.digest)
    watched = judge(against.reference, sketch, limits, importance=weights, segments=against.segments)
    known, true = _performance(world, own, stretch)
    series = values_of(watched, known.metrics, limits)
    points = windows_in_a_row(
        world, model, Point(sketch.first, sketch.last, against.number, sketch.rows, series), limits.trend_windows
    )
    trend = judge_trend(points, limits) if watched.verdict.findings[0].passed else []
    verdict = Verdict(watched.verdict.question, (*watched.verdict.findings, *true, *trend))
    return _record(world, stretch, watched, verdict, known, points, series, actor)


def _performance(world: World, own: Settings, stretch: Stretch) -> tuple[Realised, list[Finding]]:
    """What is realised on the stretch so far, and what is wrong with it."""
    declared, against, limits = stretch.declared, stretch.against, own.monitoring
    truths = gather_truths(world, declared.predicts, stretch.sketch.model, stretch.asked, stretch.records)
    joined = join(stretch.asked, truths)
    joined = replace(joined, waiting=joined.waiting + stretch.unasked)
    classes, counted = classes_of(joined.records), unlearnt(joined, against.split)
    known = realised(declared.task, classes, counted, own.costs)
    if missed := missed_by_estimate(declared.task, known, limits):  # intervals are dear: only where they decide
        known = realised(declared.task, classes, counted, own.costs, missed)
    found = target_shift(against.reference.target, joined.truths, limits)
    if joined.records or joined.waiting:
        found += judge_performance(declared.task, against.number, known, limits)
    return known, found


def _importance(world: World, bundle: str) -> Mapping[str, float]:
    """The version's permutation importance by input; empty until it was measured, which is after its release."""
    try:
        found = json.loads(world.bundles.read_beside(bundle, "importance.json"))["loss"]
        return {name: float(loss) for name, loss in found.items() if loss is not None}
    except (NotFound, ValueError, KeyError):
        return {}


def _record(
    world: World,
    stretch: Stretch,
    watched: Watched,
    verdict: Verdict,
    found: Realised,
    points: Sequence[Point],
    series: Mapping[str, float],
    actor: str,
) -> MonitorReport:
    """Tell the ledger, and leave the report beside the bundle, where the newest ``REPORTS`` are kept."""
    sketch, bundle = stretch.sketch, stretch.bundle.digest
    model, version, now = sketch.model, sketch.version, world.clock.now()
    facts = WindowFacts(sketch.rows, sketch.first, sketch.last, sketch.ends, stretch.versions, sketch.degraded)
    key = digest({"model": model, "version": version, "ends": sketch.ends, "rows": sketch.rows})
    name = f"monitor.{key[:16]}.json"
    evidence = {
        "key": key,
        "bundle": bundle,
        "window": {"rows": facts.rows, "first": facts.first, "last": facts.last, "ends": facts.ends},
        "outcomes": _outcomes(verdict),
        "series": series,
        "report": name,
    }
    why = _sentence(verdict)
    world.state.append(Event("monitor.judged", now, actor, model, version, why, evidence))
    event = None
    if verdict.breached:
        numbers = {each.name: each.measured for each in watched.shifts if each.moved}
        event = tell_once(
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
        segments=watched.segments,
        windows=tuple(points),
        bars=bars_of(stretch.against.reference, sketch),
    )
    world.bundles.write_beside(bundle, name, canonical(report), keep=REPORTS)
    return report


def _numbers(verdict: Verdict, numbers: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    findings = [
        {"check": f.check, "subject": f.subject, "measured": f.measured, "limit": f.limit} for f in verdict.failed
    ]
    return {"findings": to_plain(findings), "inputs": to_plain(numbers)}


def _outcomes(verdict: Verdict) -> dict[str, str]:
    """What came of each check: the worst of its findings, so that one limit of several that is missed does not read as passed."""
    worse = (Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.FAILED)
    found = sorted(verdict.findings, key=lambda finding: worse.index(finding.outcome))
    return {finding.check: finding.outcome.value for finding in found}


def _sentence(verdict: Verdict) -> str:
    said = verdict.failed or [finding for finding in verdict.findings if not finding.passed]
    return "; ".join(finding.why for finding in said) or "nothing moved beyond its limit"
