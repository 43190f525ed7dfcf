"""Better than a trivial model: the prior, the majority class, the mean, or deciding the same for everybody. Needs no champion.

The trivial model is the best constant *on these very rows*, the hardest there is. A point estimate alone would let one in two models
that learnt nothing pass, so the lower end of a paired bootstrap interval must be above the margin as well.
"""

from __future__ import annotations

import numpy as np

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Array, Evidence
from ecluse.gates.measured import called, closed, gain, metric_named
from ecluse.stats.catalog import Metric, trivial_prediction

CHECK = "baseline"
# No constant is a fair rival in these: it wins (everybody is called; the prior is calibrated), or any guessing beats it (macro F1).
UNFIT = {"recall": "log_loss", "calibration_error": "log_loss", "macro_f1": "balanced_accuracy"}


def check_baseline(evidence: Evidence, gates: Gates) -> list[Finding]:
    """One finding, on the metric versions are judged by, or a fairer one (``UNFIT``)."""
    metric = metric_named(evidence.task, UNFIT.get(evidence.judged_by, evidence.judged_by), "judged_by")
    trivial, what = trivial_answers(evidence, metric)
    every = np.ones(evidence.rows, dtype=bool)
    new = called(metric, evidence.answers, evidence.threshold)
    found = gain(evidence, metric, trivial, new, every, gates.non_regression, "judged_by")
    margin = gates.baseline_margin
    if np.isnan(found.estimate):
        return [Finding(CHECK, Outcome.INCONCLUSIVE, f"{metric.name} cannot be compared with {what}", None, margin)]
    words = f"{metric.name} is {found.estimate:+.4f} better than {what} [{found.low:+.4f}, {found.high:+.4f}]"
    if found.estimate <= margin:
        outcome, words = Outcome.FAILED, f"{words}; it must be more than {margin:g}"
    elif not found.low > margin:
        outcome, words = Outcome.INCONCLUSIVE, f"{words}: that may be luck of {evidence.rows} rows"
    else:
        outcome = Outcome.PASSED
    return [Finding(CHECK, outcome, words, found.estimate, margin, metric.name)]


def trivial_answers(evidence: Evidence, metric: Metric) -> tuple[Array, str]:
    """What the trivial model answers, in the shape of ``called`` answers, and its name."""
    if metric.needs_threshold:
        choices = {"deciding no for everybody": 0.0, "deciding yes for everybody": 1.0}
        worth = closed(metric, evidence, None, "judged_by")
        values = {name: worth(evidence.y, np.full(evidence.rows, each)) for name, each in choices.items()}
        best = max(values, key=lambda name: -np.inf if np.isnan(values[name]) else values[name])
        return np.full(evidence.rows, choices[best]), best
    if evidence.task == "multiclass":
        shares = trivial_prediction("multiclass", evidence.y, classes=evidence.answers.shape[1])
        return np.tile(np.asarray(shares), (evidence.rows, 1)), "the class shares"
    constant = trivial_prediction(evidence.task, evidence.y)
    return np.full(evidence.rows, constant), "the mean" if evidence.task == "regression" else "the prior"
