"""Non-regression: the candidate against the champion on the same rows, trained on by neither, with an interval that says how sure.

``must_gain = m`` asks new >= production + m, ``may_lose = m`` new >= production - m, in units of the metric versions are judged by.
Passed when the lower end of the paired bootstrap interval reaches the margin; failed when the estimate itself does not; between the
two the rows are too few to tell, which is inconclusive and does not pass.
"""

from __future__ import annotations

import numpy as np

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Evidence
from ecluse.gates.measured import called, closed, gain, metric_named

CHECK = "non_regression"


def check_regression(evidence: Evidence, gates: Gates) -> list[Finding]:
    """One finding with both values, the gain and its interval. Without a champion there is nothing to lose: passed, and it says so."""
    champion, level = evidence.champion, gates.non_regression
    mode, margin = ("must_gain" if level.must_gain is not None else "may_lose"), level.margin
    name = evidence.judged_by
    if champion is None:
        return [Finding(CHECK, Outcome.PASSED, "no champion to compare with", None, margin, name)]
    metric = metric_named(evidence.task, name, "judged_by")
    if champion.answers is None or champion.clean is None:
        why = f"version {champion.number} could not be asked: {champion.problem}"
        return [Finding(CHECK, Outcome.INCONCLUSIVE, why, None, margin, name)]
    rows = champion.clean
    count = f"{int(rows.sum())} of {evidence.rows} held-out rows"
    if not rows.any():
        why = f"{count} are clean of version {champion.number}'s training: nothing can be compared"
        return [Finding(CHECK, Outcome.INCONCLUSIVE, why, None, margin, name)]
    old = called(metric, champion.answers, champion.threshold)
    new = called(metric, evidence.answers, evidence.threshold)
    found = gain(evidence, metric, old, new, rows, level, "judged_by")
    if np.isnan(found.estimate):
        why = f"{name} cannot be measured on the {count} clean for both"
        return [Finding(CHECK, Outcome.INCONCLUSIVE, why, None, margin, name)]
    worth = closed(metric, evidence, None, "judged_by")
    values = f"{worth(evidence.y[rows], new[rows]):.4f} against {worth(evidence.y[rows], old[rows]):.4f}"
    interval = f"gain {found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}] at {level.confidence:.0%}"
    asked = f"{mode} {abs(margin):g} asks for {margin:+g} or more"
    if found.estimate < margin:
        outcome, words = Outcome.FAILED, f"worse than {asked}"
    elif not found.low >= margin:
        outcome, words = Outcome.INCONCLUSIVE, f"the rows are too few to be sure that {asked}"
    else:
        outcome, words = Outcome.PASSED, asked
    why = f"{name} {values} of version {champion.number}, {interval} on {count}; {words}"
    return [Finding(CHECK, outcome, why, found.estimate, margin, name)]
