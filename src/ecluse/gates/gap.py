"""Train-validation gap: how much better the candidate knows its own rows than the others.

In the metric's own unit where that is a share (ROC-AUC, F1, Brier ...). A metric with a unit of its own is made one: an error or log
loss is divided by the trivial model's, so that a limit means the same for euros and for days; lift and expected value by the training's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome, at_most
from ecluse.gates.baseline import trivial_answers
from ecluse.gates.evidence import Evidence
from ecluse.gates.measured import closed, measured, metric_named

CHECK = "gap"
PER_TRIVIAL = frozenset({"log_loss", "rmse", "mae", "median_absolute_error", "mape"})


def check_gap(evidence: Evidence, gates: Gates) -> list[Finding]:
    """One finding, on the metric versions are judged by, at the threshold of the training."""
    metric = metric_named(evidence.task, evidence.judged_by, "judged_by")
    trained = evidence.train.get(metric.name)
    if trained is None:
        why = f"the run recorded no {metric.name} on the rows trained on"
        return [Finding(CHECK, Outcome.INCONCLUSIVE, why, None, gates.max_gap, metric.name)]
    held = measured(replace(evidence, threshold=evidence.trained_threshold), metric, "judged_by")
    lost, unit, words = (trained - held if metric.greater_is_better else held - trained), 1.0, ""
    if metric.name in PER_TRIVIAL:
        trivial, what = trivial_answers(evidence, metric)
        unit, words = closed(metric, evidence, None, "judged_by")(evidence.y, trivial), f" of the error of {what}"
    elif metric.name.startswith("lift_at_") or metric.name == "expected_value":
        unit, words = abs(trained), " of the training's"
    found = at_most(CHECK, lost / unit if unit else float("nan"), gates.max_gap, subject=metric.name)
    if np.isnan(held):
        return [found]
    why = f"{metric.name} {trained:.4f} in training, {held:.4f} on held-out rows: {found.why.replace(metric.name, 'the gap')}{words}"
    return [replace(found, why=why)]
