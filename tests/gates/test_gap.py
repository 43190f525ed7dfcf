"""The gap between what a model knows of its own rows and of others."""

import pytest
from tests.gates.planted import FAILED, INCONCLUSIVE, PASSED, evidence, only

from ecluse.core.settings import Gates
from ecluse.gates.gap import check_gap


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_small_gap_passes_and_a_large_one_fails(task: str) -> None:
    assert only(check_gap, evidence(task)).outcome is PASSED
    overfit = evidence(task, noise=2.0, train={"roc_auc": 1.0, "macro_f1": 1.0, "rmse": 0.1})
    assert only(check_gap, overfit).outcome is FAILED


def test_an_error_is_measured_in_shares_of_the_trivial_models() -> None:
    made = evidence("regression", train={"rmse": 5.0})
    euros = only(check_gap, made)
    cents = only(check_gap, evidence("regression", y=made.y * 100, answers=made.answers * 100, train={"rmse": 500.0}))
    assert euros.measured == pytest.approx(cents.measured)
    assert "the mean" in euros.why


def test_better_on_other_rows_than_on_its_own_is_no_gap() -> None:
    assert only(check_gap, evidence(train={"roc_auc": 0.55})).outcome is PASSED


def test_lift_and_expected_value_are_relative_to_the_training() -> None:
    lift = evidence(judged_by="lift_at_10", train={"lift_at_10": 40.0})
    assert only(check_gap, lift).outcome is FAILED
    assert only(check_gap, lift, Gates(max_gap=1.0)).outcome is PASSED


def test_without_the_trainings_metric_it_is_inconclusive() -> None:
    assert only(check_gap, evidence(train={})).outcome is INCONCLUSIVE
