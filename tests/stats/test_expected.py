"""Expected metrics: those of certain truths when the probabilities are certain, else their mean over truths drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.stats import metrics_binary, metrics_multiclass
from ecluse.stats.expected import expected_binary, expected_multiclass, expected_roc_auc

NAMES = ("roc_auc", "accuracy", "precision", "recall", "f1")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])), min_size=1, max_size=40))
def test_certain_probabilities_give_the_metrics_themselves(rows: list[tuple[bool, float]]) -> None:
    y, s = map(list, zip(*rows, strict=True))
    found = expected_binary(s, [float(each) for each in y], 0.5)
    for name in NAMES:
        function = getattr(metrics_binary, name)
        known = function(y, s) if name == "roc_auc" else function(y, s, 0.5)
        assert found[name] == pytest.approx(known, nan_ok=True), name


def test_otherwise_their_mean_over_truths_drawn() -> None:
    rng = np.random.default_rng(0)
    s = rng.random(400).round(2)
    c = s**1.5
    found = expected_binary(s, c, 0.4)
    draws = rng.random((400, 400)) < c
    for name in NAMES:
        function = getattr(metrics_binary, name)
        mean = np.mean([function(y, s) if name == "roc_auc" else function(y, s, 0.4) for y in draws])
        assert found[name] == pytest.approx(mean, abs=0.005), name


def test_several_classes_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    s = rng.dirichlet([1.0, 0.7, 0.5], 500)
    found = expected_multiclass(s, s)
    draws = [np.array([rng.choice(3, p=row) for row in s]) for _ in range(40)]
    for name, value in found.items():
        function = getattr(metrics_multiclass, name)
        assert value == pytest.approx(np.mean([function(y, s) for y in draws]), abs=0.01), name


def test_edges() -> None:
    assert np.isnan(expected_roc_auc([0.3], [0.5]))
    assert expected_roc_auc([0.1, 0.1], [0.2, 0.9]) == pytest.approx(0.5)
    assert np.isnan(expected_binary([], [])["accuracy"])
    assert np.isnan(expected_binary([0.1], [0.5], 0.5)["precision"])
    assert np.isnan(expected_multiclass([], [])["accuracy"])
    with pytest.raises(InvalidInput):
        expected_binary([0.1], [])
