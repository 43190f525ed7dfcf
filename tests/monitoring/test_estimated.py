"""Estimates: the same kinds of answers as realised metrics, their past errors, and when nothing is claimed."""

from __future__ import annotations

import numpy as np
import pytest
from tests.monitoring.months import split_up

from ecluse.core.verdict import Outcome
from ecluse.monitoring.estimated import Estimated, Rows, estimate, judge_estimated
from ecluse.stats.catalog import measure

NOTHING = np.empty(0)


def honest(seed: int, rows: int) -> Rows:
    """Scores that are what they say."""
    rng = np.random.default_rng(seed)
    s = rng.beta(1.5, 3.0, rows)
    return Rows(s, (rng.random(rows) < s).astype(float))


def several(seed: int, rows: int, turned: bool = False) -> Rows:
    """Three classes, shares that are what they say, or of the next class."""
    rng = np.random.default_rng(seed)
    s = rng.dirichlet([1.0, 0.7, 0.5], rows)
    y = np.array([rng.choice(3, p=row) for row in s], dtype=float)
    return Rows(s, (y + 1) % 3 if turned else y)


def test_binary_estimates_are_near_what_turns_out() -> None:
    month = honest(2, 20_000)
    found = estimate("binary", honest(0, 2_000), split_up(honest(1, 4_000)), Rows(month.scores, NOTHING), 0.4)
    known = measure("binary", month.y, month.scores, threshold=0.4, names=found.metrics)
    assert set(found.metrics) == {"roc_auc", "accuracy", "precision", "recall", "f1"}
    for name, value in found.metrics.items():
        assert value == pytest.approx(known[name], abs=0.02), name
    assert found.checked
    assert len(found.windows) == 4
    assert set(found.error) == set(found.worst) == set(found.metrics)
    assert all(0 <= found.error[name] <= found.worst[name] < 0.06 for name in found.error)
    assert found.windows[-1].last == "row 3000"


def test_several_classes() -> None:
    month = several(2, 10_000)
    found = estimate("multiclass", several(0, 2_000), split_up(several(1, 2_000)), Rows(month.scores, NOTHING), 0.5)
    known = measure(
        "multiclass", month.y, month.scores, names=["accuracy", "balanced_accuracy", "macro_f1", "roc_auc_ovr"]
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc_ovr"):
        assert found.metrics[name] == pytest.approx(known[name], abs=0.02), name
    turned = [*split_up(several(1, 2_000)), several(3, 1_000, turned=True)]
    lost = estimate("multiclass", several(0, 2_000), turned, Rows(month.scores, NOTHING), 0.5)
    assert not lost.knows


def test_where_nothing_is_claimed() -> None:
    some = honest(0, 1_000)
    assert estimate("regression", some, [], some, 0.5).why
    one_class = estimate("binary", Rows(some.scores, np.zeros(1_000)), [], some, 0.5)
    assert (one_class.metrics, one_class.knows) == ({}, False)
    few = estimate("binary", some, [], some, 0.5, least=5_000)
    assert (few.metrics, few.knows, few.why) == (
        {},
        False,
        "1,000 answers wait for their truths: too few, at least 5,000",
    )
    changed = Rows(some.scores, 1 - some.y, "2024-01", "2024-02")
    lost = estimate("binary", some, [changed], some, 0.5)
    assert (lost.metrics, lost.knows) == ({}, False)
    assert lost.why.startswith(
        "cannot know: on the newest matured window, up to 2024-02, the probabilities were off by"
    )
    assert lost.windows[-1].realised
    again = estimate("binary", some, [changed, honest(5, 1_000)], some, 0.5)
    assert again.knows, "a window that failed is not learnt from, and one that holds again is believed"


def test_findings_are_for_people() -> None:
    sure = Estimated(500, {"roc_auc": 0.8}, {"roc_auc": 0.01}, {"roc_auc": 0.02}, (), True, True)
    assert [f.outcome for f in judge_estimated("binary", 1, sure, {"roc_auc": 0.7})] == [Outcome.PASSED]
    assert [f.outcome for f in judge_estimated("binary", 1, sure, {"roc_auc": 0.9})] == [Outcome.FAILED]
    assert judge_estimated("binary", 1, sure, {"log_loss": 0.9}) == [], "what is not estimated is not judged"
    unchecked = Estimated(500, {"roc_auc": 0.8}, knows=True)
    [finding] = judge_estimated("binary", 1, unchecked, {"roc_auc": 0.7})
    assert (finding.outcome, finding.measured) == (Outcome.INCONCLUSIVE, 0.8)
    lost = Estimated(500, {}, checked=True, why="cannot know: it changed")
    [finding] = judge_estimated("binary", 1, lost, {"roc_auc": 0.7})
    assert (finding.outcome, finding.why, finding.measured) == (Outcome.INCONCLUSIVE, "cannot know: it changed", None)
