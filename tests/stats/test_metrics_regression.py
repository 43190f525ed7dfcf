"""Regression metrics: equal to scikit-learn to 1e-12; undefined ratios are NaN."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.stats import metrics_regression as m

close = partial(pytest.approx, rel=1e-12, abs=1e-12, nan_ok=True)
PAIRS = (
    (m.rmse, reference.root_mean_squared_error),
    (m.mae, reference.mean_absolute_error),
    (m.median_absolute_error, reference.median_absolute_error),
    (m.r2, reference.r2_score),
    (m.mape, reference.mean_absolute_percentage_error),
)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    y = random.normal(20, 5, 300)
    guess = y + random.normal(size=300)
    for ours, theirs in PAIRS:
        assert ours(y, guess) == close(theirs(y, guess))


def test_unmeasurable_is_nan() -> None:
    for ours, _ in PAIRS:
        assert math.isnan(ours([], []))
        assert math.isnan(ours([1, 2], [1, float("nan")]))
    assert math.isnan(m.mape([0, 1], [1, 1]))
    assert math.isnan(m.r2([3, 3], [3, 3]))


def test_unequal_lengths_are_refused() -> None:
    for ours, _ in PAIRS:
        with pytest.raises(InvalidInput):
            ours([1, 2], [1])


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=30), st.floats(-1e3, 1e3))
def test_errors_do_not_depend_on_order_or_origin(rows: list[tuple[float, float]], shift: float) -> None:
    y, guess = map(np.array, zip(*rows, strict=True))
    assert m.mae(y, guess) <= m.rmse(y, guess) * (1 + 1e-12) + 1e-150
    for metric in (m.rmse, m.mae, m.median_absolute_error):
        assert metric(y[::-1], guess[::-1]) == close(metric(y, guess))
        assert metric(y + shift, guess + shift) == close(metric(y, guess), rel=1e-6, abs=1e-6)
