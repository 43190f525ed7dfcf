"""A version is judged against its gates and the champion; the report binds the answer to its bundle, its champion and a time."""

from __future__ import annotations

from ecluse.core.codec import canonical, digest, to_plain
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Verdict
from ecluse.core.version import GateReport
from ecluse.gates.evidence import Evidence
from ecluse.gates.fresh import check_fresh
from ecluse.gates.judge import judge_gates, storable
from ecluse.loop.gate_evidence import describe_rows, gather

REPORT = "gates.json"


def gate(
    world: World,
    project: Project,
    settings: Settings,
    model: str,
    number: int,
    *,
    actor: str,
    dry_run: bool = False,
    reproduced: bool | None = None,
) -> GateReport:
    """Judge version ``number`` on rows held out of its training, and against the champion on those the champion was not trained on either.

    A refusal is a report that did not pass, not an exception. A report that passed moves the version to Staging; it is valid until
    ``gates.valid_for`` is over, another version is champion or the threshold is changed. ``reproduced`` says whether a second training
    gave the same bundle (None: nobody tried). ``dry_run`` answers the same and records nothing. Raises NotFound, Corrupt or NotAllowed
    for the candidate's bundle, DeclarationError for settings that name an unknown metric or feature, Conflict, Unavailable.
    """
    own = settings.for_model(model)
    version = world.state.version(model, number)
    champion = world.state.rollout(model).champion
    evidence = gather(world, project, own, version, champion, reproduced)
    verdict = judge_gates(evidence, own.gates, f"may version {number} of {model} be promoted")
    made = world.clock.now()
    expires = made + own.gates.valid_for
    report = GateReport(
        model, number, version.bundle, champion, verdict, made, expires, dry=dry_run, threshold=version.threshold
    )
    if not dry_run:
        _record(world, report, evidence, check_fresh(evidence, own.gates), actor)
    return report


def _record(world: World, report: GateReport, evidence: Evidence, fresh: Finding, actor: str) -> None:
    """The file first, the authority last: whatever ends this halfway, a version is in Staging only with its report beside it."""
    rests_on = {**describe_rows(evidence), fresh.check: to_plain(storable(fresh))}
    world.bundles.write_beside(report.bundle, REPORT, canonical({"report": to_plain(report), "evidence": rests_on}))
    stopped = stopped_by(report.verdict)
    found = {
        "bundle": report.bundle,
        "champion": report.champion,
        "passed": report.verdict.passed,
        "failed": stopped,
        "report": digest(report),
        **rests_on,
    }
    event = Event("version.gated", report.made, actor, report.model, report.version, _reason(report, stopped), found)
    world.state.add_report(report, event)


def stopped_by(verdict: Verdict) -> list[str]:
    """The checks that did not pass, failed or inconclusive, each once."""
    return sorted({finding.check for finding in verdict.findings if not finding.passed})


def _reason(report: GateReport, stopped: list[str]) -> str:
    findings = report.verdict.findings
    passed = f"{sum(finding.passed for finding in findings)} of {len(findings)} findings passed"
    return f"{passed}; stopped by {', '.join(stopped)}" if stopped else passed
