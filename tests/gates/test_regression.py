"""Against the champion: both modes, both directions, and what happens where nothing can be compared."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gates.planted import FAILED, INCONCLUSIVE, PASSED, champion_of, evidence, only

from ecluse.core.settings import Gates, NonRegression
from ecluse.gates.evidence import Champion
from ecluse.gates.regression import check_regression


def mode(**level: float) -> Gates:
    return Gates(non_regression=NonRegression(**{"rounds": 200, **level}))  # type: ignore[arg-type]


def test_without_a_champion_there_is_nothing_to_lose() -> None:
    finding = only(check_regression, evidence())
    assert finding.outcome is PASSED
    assert "no champion" in finding.why


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_much_better_passes_and_much_worse_fails(task: str) -> None:
    good, bad = evidence(task), evidence(task, noise=3.0)
    assert good.y.tolist() == bad.y.tolist()
    better = replace(good, champion=champion_of(bad))
    worse = replace(bad, champion=champion_of(good))
    assert only(check_regression, better, mode(must_gain=0.02)).outcome is PASSED
    assert only(check_regression, worse, mode(may_lose=0.02)).outcome is FAILED
    assert float(only(check_regression, better).measured or 0) > 0  # positive is better, for errors too
    assert float(only(check_regression, worse).measured or 0) < 0


def test_must_gain_asks_more_than_may_lose() -> None:
    made = evidence(rows=2_000)
    almost = replace(made, champion=champion_of(made, noise=0.02))
    assert only(check_regression, almost, mode(may_lose=0.02)).outcome is PASSED
    assert only(check_regression, almost, mode(must_gain=0.02)).outcome is FAILED


def test_between_estimate_and_interval_it_is_inconclusive() -> None:
    made = evidence(rows=60)
    unsure = replace(made, champion=champion_of(made, noise=0.15))
    estimate = float(only(check_regression, unsure, mode(may_lose=0.9)).measured or 0)
    finding = only(
        check_regression, unsure, mode(must_gain=max(estimate, 0.0)) if estimate > 0 else mode(may_lose=-estimate)
    )
    assert finding.outcome is INCONCLUSIVE
    assert "too few" in finding.why
    assert not finding.passed


def test_only_rows_clean_for_both_are_compared() -> None:
    made = evidence()
    clean = np.zeros(made.rows, dtype=bool)
    clean[:400] = True
    wrong = np.where(clean, made.answers, made.y)  # perfect where it was trained, alike where it was not
    finding = only(check_regression, replace(made, champion=champion_of(made, answers=wrong, clean=clean)))
    assert (finding.outcome, finding.measured) == (PASSED, 0.0)
    assert "400 of 800" in finding.why


def test_no_shared_rows_and_no_answers_are_inconclusive_and_say_why() -> None:
    made = evidence()
    none = only(check_regression, replace(made, champion=champion_of(made, clean=np.zeros(made.rows, dtype=bool))))
    assert (none.outcome, "0 of 800" in none.why) == (INCONCLUSIVE, True)
    silent = only(check_regression, replace(made, champion=Champion(3, problem="its bundle is gone")))
    assert (silent.outcome, "its bundle is gone" in silent.why) == (INCONCLUSIVE, True)
    broken = champion_of(made, answers=np.full(made.rows, np.nan))
    assert only(check_regression, replace(made, champion=broken)).outcome is INCONCLUSIVE


def test_decisions_are_taken_at_each_versions_own_threshold() -> None:
    made = evidence(judged_by="f1", threshold=0.5)
    same_decisions = champion_of(made, answers=made.answers / 2, threshold=0.25)
    finding = only(check_regression, replace(made, champion=same_decisions))
    assert (finding.outcome, finding.measured) == (PASSED, 0.0)


@given(
    rows=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    lose=st.floats(1e-9, 1),
    task=st.sampled_from(["binary", "multiclass", "regression"]),
)
def test_a_champion_equal_to_the_candidate_always_passes_may_lose(rows: int, seed: int, lose: float, task: str) -> None:
    made = evidence(task, rows=rows + 1, seed=seed)
    assert only(check_regression, replace(made, champion=champion_of(made)), mode(may_lose=lose)).outcome is PASSED
