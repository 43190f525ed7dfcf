"""The trivial model must be beaten, whatever the task and the metric, and not by luck."""

from dataclasses import replace

import numpy as np
import pytest
from tests.gates.planted import FAILED, GATES, INCONCLUSIVE, PASSED, evidence, only

from ecluse.core.settings import Gates, NonRegression
from ecluse.gates.baseline import check_baseline

METRICS = [
    *[
        ("binary", name)
        for name in ("roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "f1", "recall", "precision_at_10")
    ],
    *[("binary", name) for name in ("lift_at_5", "calibration_error", "precision")],
    *[("multiclass", name) for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc_ovr")],
    *[("regression", name) for name in ("rmse", "mae", "r2", "median_absolute_error")],
]


@pytest.mark.parametrize(("task", "metric"), METRICS)
def test_a_model_that_learnt_something_passes(task: str, metric: str) -> None:
    assert only(check_baseline, evidence(task, judged_by=metric)).outcome is PASSED


@pytest.mark.parametrize(("task", "metric"), METRICS)
def test_a_model_that_learnt_nothing_rarely_passes(task: str, metric: str) -> None:
    # One side of a 95 % interval: 1 in 40 by luck. Of 30 such models 5 or more pass once in 1,500 times; the seeds are fixed.
    made = evidence(task, rows=300, judged_by=metric)
    shuffles = (np.random.default_rng(seed).permutation(made.answers) for seed in range(30))
    found = [only(check_baseline, replace(made, answers=answers)) for answers in shuffles]
    assert sum(finding.passed for finding in found) <= 4


def test_the_trivial_model_itself_fails() -> None:
    for task in ("binary", "regression"):
        made = evidence(task)
        finding = only(check_baseline, evidence(task, answers=np.full(made.rows, made.y.mean())))
        assert (finding.outcome, finding.measured) == (FAILED, 0.0)


def test_a_margin_is_asked_on_top() -> None:
    assert only(check_baseline, evidence(), Gates(baseline_margin=0.2)).outcome is PASSED
    assert only(check_baseline, evidence(), Gates(baseline_margin=0.45)).outcome is FAILED


def test_a_little_better_on_few_rows_is_inconclusive() -> None:
    made = evidence(rows=40, noise=6.0, seed=4)
    finding = only(check_baseline, made, Gates(non_regression=NonRegression(rounds=300)))
    assert finding.measured is not None
    assert finding.outcome is (INCONCLUSIVE if float(finding.measured) > 0 else FAILED)


def test_expected_value_is_compared_with_the_better_of_all_and_none() -> None:
    costs = {"false_positive": 1.0, "false_negative": 0.0, "action_value": 1.0}
    assert only(check_baseline, evidence(judged_by="expected_value", costs=costs), GATES).outcome is PASSED
