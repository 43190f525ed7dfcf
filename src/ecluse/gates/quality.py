"""Quality floors: metrics on the held-out rows reach what ``gates.floor`` asks; an error metric must stay below its number."""

from __future__ import annotations

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome, at_least, at_most
from ecluse.gates.evidence import Evidence
from ecluse.gates.measured import measured, metric_named

CHECK = "floor"


def check_floor(evidence: Evidence, gates: Gates) -> list[Finding]:
    """A finding per declared floor. One that cannot be measured is inconclusive. Raises DeclarationError for an unknown metric."""
    if not gates.floor:
        return [Finding(CHECK, Outcome.PASSED, "no floor is declared")]
    found = []
    for name, limit in sorted(gates.floor.items()):
        metric = metric_named(evidence.task, name, "gates.floor")
        compare = at_least if metric.greater_is_better else at_most
        found.append(compare(CHECK, measured(evidence, metric, "gates.floor"), limit, subject=name))
    return found
