"""Binary metrics: equal to scikit-learn to 1e-12, honest about what cannot be measured."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats import metrics_binary as m
from ecluse.stats.arrays import Floats

close = partial(pytest.approx, rel=1e-12, abs=1e-12, nan_ok=True)


def draw(seed: int, rows: int = 800, digits: int = 2) -> tuple[Floats, Floats]:
    """Labels and tied probabilities that carry some signal."""
    random = np.random.default_rng(seed)
    y = (random.random(rows) < 0.3).astype(int)
    p = 1 / (1 + np.exp(-(random.normal(size=rows) + 1.2 * y - 0.8)))
    return y, p.round(digits)


def labelled() -> st.SearchStrategy[tuple[list[int], list[float]]]:
    row = st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda i: i / 20))
    both = st.tuples(st.just((0, 0.35)), st.just((1, 0.6)))
    rows = st.tuples(both, st.lists(row, max_size=40)).map(lambda parts: [*parts[0], *parts[1]])
    return rows.map(lambda found: ([y for y, _ in found], [p for _, p in found]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 2, 12])
def test_scores_equal_scikit_learn(seed: int, digits: int) -> None:
    y, p = draw(seed, digits=digits)
    assert m.roc_auc(y, p) == close(reference.roc_auc_score(y, p))
    assert m.pr_auc(y, p) == close(reference.average_precision_score(y, p))
    assert m.log_loss(y, p) == close(reference.log_loss(y, p))
    assert m.brier(y, p) == close(reference.brier_score_loss(y, p))


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.77])
def test_calls_equal_scikit_learn(threshold: float) -> None:
    y, p = draw(11)
    called = p >= threshold
    assert m.accuracy(y, p, threshold) == close(reference.accuracy_score(y, called))
    assert m.precision(y, p, threshold) == close(reference.precision_score(y, called))
    assert m.recall(y, p, threshold) == close(reference.recall_score(y, called))
    assert m.f1(y, p, threshold) == close(reference.f1_score(y, called))
    (tn, fp), (fn, tp) = reference.confusion_matrix(y, called).tolist()
    assert m.confusion(y, p, threshold) == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}


@pytest.mark.parametrize("seed", range(3))
def test_curves_equal_scikit_learn(seed: int) -> None:
    y, p = draw(seed)
    for ours, theirs in zip(m.roc_curve(y, p), reference.roc_curve(y, p, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for ours, theirs in zip(m.pr_curve(y, p), reference.precision_recall_curve(y, p), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    predicted, observed, rows = m.calibration_curve(y, p, bins=7)
    truth, mean = sklearn.calibration.calibration_curve(y, p, n_bins=7, strategy="quantile")
    np.testing.assert_allclose(observed, truth, atol=1e-12)
    np.testing.assert_allclose(predicted, mean, atol=1e-12)
    assert rows.sum() == y.size


def test_calibration_error_by_hand_and_of_a_calibrated_model() -> None:
    assert m.calibration_error([0, 1, 0, 1], [0.5] * 4) == 0
    assert m.calibration_error([1, 1, 1, 1], [0.25] * 4) == 0.75
    random = np.random.default_rng(3)
    p = random.random(50_000)
    assert m.calibration_error(random.random(50_000) < p, p) < 0.01


def test_expected_value_counts_every_cell() -> None:
    y, p = draw(4)
    cells = m.confusion(y, p, 0.4)
    by_hand = (cells["tp"] * 30 - cells["fp"] * 2 - cells["fn"] * 7) / y.size
    assert m.expected_value(y, p, 0.4, false_positive=2, false_negative=7, action_value=30) == pytest.approx(by_hand)


def test_precision_at_takes_the_best_rows_and_shares_the_tie_at_the_cut() -> None:
    y, p = draw(5, digits=15)
    best = np.argsort(-p)[:80]
    assert m.precision_at(y, p, 0.1) == close(y[best].mean())
    assert m.lift_at(y, p, 0.1) == close(y[best].mean() / y.mean())
    assert m.precision_at([1, 0, 0, 0], [0.5] * 4, 0.5) == 0.25
    assert m.precision_at([1] * 3 + [0] * 27, np.linspace(1, 0, 30), 0.1) == 1.0
    assert m.lift_at(y, p, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [m.roc_auc, m.pr_auc, m.log_loss, m.brier, m.accuracy, m.f1, m.calibration_error])
def test_no_rows_or_a_nan_score_is_nan(metric: object) -> None:
    assert callable(metric)
    assert math.isnan(metric([], []))
    assert math.isnan(metric([0, 1, 1], [0.1, float("nan"), 0.9]))


def test_one_class_only_is_nan_not_an_exception() -> None:
    assert math.isnan(m.roc_auc([0, 0], [0.1, 0.2]))
    assert math.isnan(m.roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(m.pr_auc([0, 0], [0.1, 0.2]))
    assert math.isnan(m.recall([0, 0], [0.1, 0.2]))
    assert math.isnan(m.precision([0, 1], [0.1, 0.2]))
    assert math.isnan(m.lift_at([0, 0], [0.1, 0.2], 0.5))
    assert np.isnan(m.roc_curve([0, 0], [0.1, 0.2])[1]).all()


@pytest.mark.parametrize(
    ("y", "p"), [([0, 1], [0.5]), ([0, 2], [0.1, 0.2]), ([[0, 1]], [[0.1, 0.2]]), (["a", "b"], [0.1, 0.2])]
)
def test_unusable_input_is_refused(y: ArrayLike, p: ArrayLike) -> None:
    with pytest.raises(InvalidInput):
        m.roc_auc(y, p)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(InvalidInput):
        m.precision_at([0, 1], [0.1, 0.2], 0)
    with pytest.raises(InvalidInput):
        m.calibration_curve([0, 1], [0.1, 0.2], bins=0)


@given(labelled(), st.randoms(use_true_random=False))
def test_order_of_rows_never_matters(data: tuple[list[int], list[float]], random: object) -> None:
    y, p = map(np.array, data)
    index = list(range(len(y)))
    random.shuffle(index)  # type: ignore[attr-defined]
    for metric in (m.roc_auc, m.pr_auc, m.log_loss, m.brier, m.f1, m.calibration_error):
        assert metric(y[index], p[index]) == close(metric(y, p))
    assert m.precision_at(y[index], p[index], 0.3) == close(m.precision_at(y, p, 0.3))


@given(labelled())
def test_ranking_metrics_ignore_a_rising_transform_and_auc_mirrors(data: tuple[list[int], list[float]]) -> None:
    y, p = map(np.array, data)
    stretched = np.exp(3 * p) - 7
    assert m.roc_auc(y, stretched) == m.roc_auc(y, p)
    assert m.pr_auc(y, stretched) == m.pr_auc(y, p)
    assert m.lift_at(y, stretched, 0.2) == m.lift_at(y, p, 0.2)
    assert m.roc_auc(y, -p) == close(1 - m.roc_auc(y, p))
    assert m.roc_auc(1 - y, p) == close(1 - m.roc_auc(y, p))


@given(labelled())
def test_bounds(data: tuple[list[int], list[float]]) -> None:
    y, p = data
    for metric in (m.roc_auc, m.pr_auc, m.brier, m.accuracy, m.f1, m.calibration_error):
        assert 0 <= metric(y, p) <= 1
    assert m.log_loss(y, p) >= 0
