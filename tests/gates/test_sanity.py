"""Answers that are broken, constant, one-sided, or unlike the champion's."""

from dataclasses import replace

import numpy as np
import pytest
from tests.gates.planted import FAILED, INCONCLUSIVE, PASSED, champion_of, evidence, outcomes

from ecluse.core.settings import Gates, Sanity
from ecluse.gates.sanity import check_sanity, distance


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_sane_answers_pass(task: str) -> None:
    made = evidence(task)
    assert set(outcomes(check_sanity, replace(made, champion=champion_of(made))).values()) == {PASSED}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_an_answer_that_is_no_number_fails(task: str, bad: float) -> None:
    answers = evidence(task).answers.copy()
    answers[5] = bad
    assert outcomes(check_sanity, evidence(task, answers=answers)) == {"finite": FAILED}


def test_a_constant_fails() -> None:
    assert outcomes(check_sanity, evidence(answers=np.full(800, 0.3)))["distinct answers"] is FAILED


def test_everybody_or_nobody_positive_fails() -> None:
    for threshold in (0.0, 1.0):
        assert outcomes(check_sanity, evidence(threshold=threshold))["positive rate"] is FAILED
    narrow = Gates(sanity=Sanity(positive_rate=(0.0, 0.2)))
    assert outcomes(check_sanity, evidence(), narrow)["positive rate"] is FAILED


def test_one_class_for_everybody_fails() -> None:
    answers = evidence("multiclass").answers + np.array([9.0, 0.0, 0.0])
    assert outcomes(check_sanity, evidence("multiclass", answers=answers))["share of the commonest answer"] is FAILED


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_another_distribution_than_the_champions_fails(task: str) -> None:
    made = evidence(task)
    moved = champion_of(made, answers=made.answers + 5 * made.answers.std())
    assert outcomes(check_sanity, replace(made, champion=moved))["psi"] is FAILED


def test_other_classes_than_the_champions_fail() -> None:
    old = np.eye(3)[np.zeros(300, dtype=int)]
    new = np.eye(3)[np.ones(300, dtype=int)]
    assert distance(old, old) == 0
    assert distance(old, new) > 1


def test_a_silent_champion_is_inconclusive() -> None:
    made = evidence()
    for silent in (champion_of(made, answers=None), champion_of(made, clean=np.zeros(made.rows, dtype=bool))):
        assert outcomes(check_sanity, replace(made, champion=silent))["psi"] is INCONCLUSIVE
