"""Settle: truths settled and performance judged by the loop that stays up. What is worse than declared is told, so that it sets off what it may.

A person's ``ecluse outcomes`` looks and tells no more than the counts; this is the same look, and what follows from it.
"""

from __future__ import annotations

from ecluse.core.codec import digest, to_plain
from ecluse.core.errors import NotFound
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.loop.each import for_each
from ecluse.loop.once import tell_once
from ecluse.loop.outcomes import OutcomesReport, outcomes
from ecluse.loop.releases import Releases, tell_releases

BY = "outcomes"
"""What judged, in the evidence: all truths of a version, not a window of its predictions."""


def settle_all(world: World, project: Project, settings: Settings) -> list[OutcomesReport]:
    """:func:`settle` for every model that has a champion. Linear in the journal. What one raises is raised when all the others were settled."""

    def settled(model: str) -> list[OutcomesReport]:
        try:
            return [settle(world, project, settings, model)] if world.state.rollout(model).champion is not None else []
        except NotFound:  # no data of its label yet
            return []

    return for_each((model.name for model in project.models), settled)


def settle(world: World, project: Project, settings: Settings, model: str) -> OutcomesReport:
    """Settle what is known now; ``drift.detected`` of the champion when its realised performance misses a declared limit.

    Told once for as many truths: with more of them, and still missed, it is told again. That it passes is told (``outcomes.settled``) when
    it was missed before. Raises NotFound for an unknown model.
    """
    report = outcomes(world, project, settings, model)
    champion = world.state.rollout(model).champion
    if champion is not None and champion in report.versions:
        if report.verdict.breached:
            _tell(world, report, champion)
        elif report.verdict.passed:
            _tell_well(world, report, champion)
    return report


def _tell(world: World, report: OutcomesReport, champion: int) -> None:
    joined = report.versions[champion].joined
    findings = [
        {"check": f.check, "subject": f.subject, "measured": f.measured, "limit": f.limit}
        for f in report.verdict.failed
    ]
    evidence = {
        "key": digest({"model": report.model, "version": champion, "truths": joined}),
        "by": BY,
        "truths": joined,
        "findings": to_plain(findings),
        "intervals": to_plain(report.versions[champion].intervals),
    }
    why = "; ".join(f.why for f in report.verdict.failed) + f", by {joined:,} truths"
    tell_once(world, Event("drift.detected", world.clock.now(), world.actor, report.model, champion, why, evidence))


def _tell_well(world: World, report: OutcomesReport, champion: int) -> None:
    """What was told against the champion by all its truths is over: an incident need not wait for it."""
    missed = tell_releases(Releases(), world.state.ledger(model=report.model), {}).against.get("performance")
    if missed is None or missed.subject != BY:
        return
    joined = report.versions[champion].joined
    evidence = {"by": BY, "truths": joined, "outcomes": {"performance": "passed"}}
    why = f"version {champion} performs as declared again, by {joined:,} truths"
    world.state.append(Event("outcomes.settled", world.clock.now(), world.actor, report.model, champion, why, evidence))


def next_due(began: float, ended: float, every: float) -> float:
    """When truths are settled again, in seconds: ``every`` so often, and for a quarter of the time at most, however long the journal is.

    >>> next_due(100.0, 102.0, 600.0), next_due(100.0, 400.0, 600.0)
    (700.0, 1300.0)
    """
    return max(began + every, ended + 3 * (ended - began))
