"""The judgement: every gate is asked, every finding is kept, so one answer names all that stands in a version's way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome, Verdict, judge
from ecluse.gates.baseline import check_baseline
from ecluse.gates.compatibility import check_compatibility
from ecluse.gates.cost import check_cost
from ecluse.gates.evidence import Evidence
from ecluse.gates.gap import check_gap
from ecluse.gates.leakage import check_leakage, check_overlap
from ecluse.gates.quality import check_floor
from ecluse.gates.regression import check_regression
from ecluse.gates.reproducible import check_reproducible
from ecluse.gates.sanity import check_sanity
from ecluse.gates.slices import check_slices

Check = Callable[[Evidence, Gates], list[Finding]]
ON_ROWS: tuple[Check, ...] = (
    check_floor,
    check_baseline,
    check_regression,
    check_gap,
    check_slices,
    check_sanity,
    check_leakage,
)
ON_THE_BUNDLE: tuple[Check, ...] = (check_overlap, check_compatibility, check_cost, check_reproducible)


def judge_gates(evidence: Evidence, gates: Gates, question: str = "may this version be promoted") -> Verdict:
    """The Verdict over all gates. Raises DeclarationError when the settings name an unknown metric; a bad model raises nothing.

    Without a held-out row the gates that need rows are not asked, and the finding ``rows`` is inconclusive.
    """
    found = check_rows(evidence)
    for check in (*ON_ROWS, *ON_THE_BUNDLE) if evidence.rows else ON_THE_BUNDLE:
        found += check(evidence, gates)
    return judge(question, [storable(each) for each in found])


def check_rows(evidence: Evidence) -> list[Finding]:
    """What is judged on: rows held out of the candidate's training, and how many of a class it does not know were left out."""
    left = f"; {evidence.left_out} of a class it never saw are left out" if evidence.left_out else ""
    entities = len(set(evidence.keys.tolist()))
    why = f"judged on {evidence.rows} held-out rows of {entities} entities{left}"
    return [Finding("rows", Outcome.PASSED if evidence.rows else Outcome.INCONCLUSIVE, why, evidence.rows, 1)]


def storable(finding: Finding) -> Finding:
    """JSON has no NaN and no infinity; the sentence keeps what was measured."""
    value = finding.measured
    return replace(finding, measured=None) if isinstance(value, float) and not math.isfinite(value) else finding
