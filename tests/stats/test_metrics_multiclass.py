"""Multi-class metrics: equal to scikit-learn to 1e-12, also where classes are missing."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import sklearn.metrics as reference

from ecluse.core.errors import InvalidInput
from ecluse.stats import metrics_binary
from ecluse.stats import metrics_multiclass as m
from ecluse.stats.arrays import Floats, Integers

close = partial(pytest.approx, rel=1e-12, abs=1e-12, nan_ok=True)


def draw(seed: int, k: int = 4, rows: int = 500) -> tuple[Integers, Floats]:
    random = np.random.default_rng(seed)
    y = random.integers(k, size=rows)
    scores = random.normal(size=(rows, k)) + 1.5 * np.eye(k)[y]
    p = np.exp(scores)
    return y, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_scikit_learn(seed: int) -> None:
    y, p = draw(seed)
    called = p.argmax(axis=1)
    assert m.accuracy(y, p) == close(reference.accuracy_score(y, called))
    assert m.balanced_accuracy(y, p) == close(reference.balanced_accuracy_score(y, called))
    assert m.macro_f1(y, p) == close(reference.f1_score(y, called, average="macro"))
    assert m.log_loss(y, p) == close(reference.log_loss(y, p))
    assert m.roc_auc_ovr(y, p) == close(reference.roc_auc_score(y, p, multi_class="ovr"))
    np.testing.assert_array_equal(m.confusion_matrix(y, p), reference.confusion_matrix(y, called))


def test_classes_that_never_occur_do_not_dilute_the_means() -> None:
    y, p = draw(9, k=3)
    wider = np.c_[p, np.zeros(len(p))]
    for metric in (m.accuracy, m.balanced_accuracy, m.macro_f1, m.log_loss, m.roc_auc_ovr):
        assert metric(y, wider) == close(metric(y, p))


def test_two_classes_agree_with_the_binary_metrics() -> None:
    y, p = draw(2, k=2)
    assert m.roc_auc_ovr(y, p) == close(metrics_binary.roc_auc(y, p[:, 1]))
    assert m.log_loss(y, p) == close(metrics_binary.log_loss(y, p[:, 1]))


def test_unmeasurable_is_nan() -> None:
    for metric in (m.accuracy, m.balanced_accuracy, m.macro_f1, m.log_loss, m.roc_auc_ovr):
        assert math.isnan(metric([], np.empty((0, 3))))
        assert math.isnan(metric([0, 1], [[0.5, 0.5], [float("nan"), 0.5]]))
    assert math.isnan(m.roc_auc_ovr([1, 1], [[0.5, 0.5], [0.4, 0.6]]))


@pytest.mark.parametrize("y", [[0, 3], [0, -1], [0, 0.5], [0], [0, float("nan")]])
def test_codes_outside_the_table_are_refused(y: list[float]) -> None:
    with pytest.raises(InvalidInput):
        m.accuracy(y, [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])


def test_a_flat_prediction_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rows, classes"):
        m.log_loss([0, 1], [0.1, 0.9])
