"""The chosen threshold is the best of all, by brute force, and lies inside a gap between scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import DeclarationError
from ecluse.core.settings import Threshold
from ecluse.stats.metrics_binary import expected_value, f1
from ecluse.training.threshold import choose_threshold, shortest_between

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.9, 1.0])), min_size=1, max_size=40
)
COSTS = {"false_positive": 2.0, "false_negative": 5.0, "action_value": 3.0}


def split(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    y, p = zip(*rows, strict=True)
    return np.array(y, dtype=np.int64), np.array(p)


@given(ROWS)
def test_best_f1(rows: list[tuple[int, float]]) -> None:
    y, p = split(rows)
    chosen = choose_threshold(Threshold("f1"), y, p, None)
    every = [np.nan_to_num(f1(y, p, t)) for t in [*p, 2.0]]
    assert np.nan_to_num(f1(y, p, chosen)) == pytest.approx(max(every))


@given(ROWS)
def test_best_value(rows: list[tuple[int, float]]) -> None:
    y, p = split(rows)
    chosen = choose_threshold(Threshold("value"), y, p, COSTS)
    every = [expected_value(y, p, t, **COSTS) for t in [*p, 2.0]]
    assert expected_value(y, p, chosen, **COSTS) == pytest.approx(max(every))


@given(ROWS)
def test_no_score_lies_on_the_threshold(rows: list[tuple[int, float]]) -> None:
    y, p = split(rows)
    chosen = choose_threshold(Threshold("f1"), y, p, None)
    assert chosen == 0.0 or not (p == chosen).any()


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_shortest_decimal_lies_between(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    assert low <= shortest_between(low, high) <= high


def test_a_fixed_threshold_is_itself() -> None:
    assert choose_threshold(Threshold("fixed", 0.42), np.array([0, 1]), np.array([0.1, 0.9]), None) == 0.42


def test_value_without_costs_names_the_cure() -> None:
    with pytest.raises(DeclarationError, match=r"declare \[costs\]"):
        choose_threshold(Threshold("value"), np.array([0, 1]), np.array([0.1, 0.9]), None)
