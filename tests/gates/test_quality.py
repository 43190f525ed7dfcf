"""Floors, in both directions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.gates.planted import FAILED, INCONCLUSIVE, PASSED, evidence, only, outcomes

from ecluse.core.errors import DeclarationError
from ecluse.core.settings import Gates
from ecluse.gates.quality import check_floor


def test_a_floor_is_reached_or_not() -> None:
    made = evidence()
    assert only(check_floor, made, Gates(floor={"roc_auc": 0.7})).outcome is PASSED
    low = only(check_floor, made, Gates(floor={"roc_auc": 0.99}))
    assert low.outcome is FAILED
    assert (low.check, low.subject, low.limit) == ("floor", "roc_auc", 0.99)
    assert "0.99" in low.why


def test_the_floor_of_an_error_is_a_ceiling() -> None:
    made = evidence("regression")
    assert only(check_floor, made, Gates(floor={"rmse": 9.0})).outcome is PASSED
    assert only(check_floor, made, Gates(floor={"rmse": 1.0})).outcome is FAILED
    assert outcomes(check_floor, made, Gates(floor={"r2": 0.2, "mae": 1.0})) == {"r2": PASSED, "mae": FAILED}


def test_a_floor_of_decisions_is_taken_at_the_threshold_that_will_serve() -> None:
    made = evidence()
    floor = Gates(floor={"recall": 0.95})
    assert only(check_floor, replace(made, threshold=0.01), floor).outcome is PASSED
    assert only(check_floor, replace(made, threshold=0.9), floor).outcome is FAILED


def test_what_cannot_be_measured_does_not_pass() -> None:
    broken = evidence().answers.copy()
    broken[3] = math.nan
    assert only(check_floor, evidence(answers=broken), Gates(floor={"roc_auc": 0.1})).outcome is INCONCLUSIVE
    assert only(check_floor, evidence(y=np.ones(800)), Gates(floor={"roc_auc": 0.1})).outcome is INCONCLUSIVE


def test_an_unknown_metric_names_file_key_and_cure() -> None:
    with pytest.raises(DeclarationError, match=r"rocauc.*ecluse\.toml: gates\.floor.*roc_auc"):
        check_floor(evidence(), Gates(floor={"rocauc": 0.7}))
    with pytest.raises(DeclarationError, match="expected_value"):
        check_floor(evidence(), Gates(floor={"expected_value": 0.0}))


def test_expected_value_is_money() -> None:
    costs = {"false_positive": 1.0, "false_negative": 0.0, "action_value": 5.0}
    assert only(check_floor, evidence(costs=costs), Gates(floor={"expected_value": 1.0})).outcome is PASSED
