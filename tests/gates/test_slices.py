"""A floor per segment; small and undefined segments do not block, and say so."""

import numpy as np
import pytest
from tests.gates.planted import FAILED, PASSED, evidence, only, outcomes

from ecluse.core.errors import DeclarationError
from ecluse.core.settings import Gates
from ecluse.gates.evidence import Evidence
from ecluse.gates.slices import check_slices

FLOOR = Gates(segment_floor={"roc_auc": 0.7}, segment_rows=100)


def planted(bad: str = "", small: int = 0) -> Evidence:
    """Plans Basic and Gold in turns, with the answers of one of them turned around, and a few rows of Trial."""
    made = evidence()
    plans = np.array(["Basic", "Gold"])[np.arange(made.rows) % 2].astype("<U8")
    plans[:small] = "Trial"
    return evidence(segments={"plan": plans}, answers=np.where(plans == bad, 1 - made.answers, made.answers))


def test_each_segment_is_judged_for_itself() -> None:
    assert outcomes(check_slices, planted(), FLOOR) == {"plan=Basic: roc_auc": PASSED, "plan=Gold: roc_auc": PASSED}
    found = outcomes(check_slices, planted(bad="Gold"), FLOOR)
    assert found == {"plan=Basic: roc_auc": PASSED, "plan=Gold: roc_auc": FAILED}


def test_a_small_segment_is_passed_over_and_named() -> None:
    found = check_slices(planted(bad="Trial", small=30), FLOOR)
    assert all(finding.passed for finding in found)
    assert "plan=Trial (30)" in found[-1].why


def test_a_segment_without_both_classes_is_passed_over_and_named() -> None:
    made = planted()
    y = np.where(made.segments["plan"] == "Gold", 0.0, made.y)
    found = check_slices(evidence(segments=made.segments, y=y), FLOOR)
    assert all(finding.passed for finding in found)
    assert "roc_auc is undefined" in found[-1].why


def test_an_error_has_a_ceiling() -> None:
    made = planted()
    assert set(outcomes(check_slices, made, Gates(segment_floor={"log_loss": 0.01})).values()) == {FAILED}


def test_nothing_declared_says_so() -> None:
    assert only(check_slices, planted(), Gates()).outcome is PASSED
    assert only(check_slices, evidence(), FLOOR).outcome is PASSED


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(DeclarationError, match=r"gates\.segment_floor"):
        check_slices(planted(), Gates(segment_floor={"auc": 0.5}))
