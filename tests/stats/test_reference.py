"""References survive JSON, count everything once, and say what is missing."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.codec import canonical, from_plain
from ecluse.core.errors import InvalidInput
from ecluse.stats.reference import CategoryReference, NumberReference, Reference, describe, describe_column

NUMBERS = st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), max_size=60)
WORDS = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "é", ""])), max_size=60)


@given(NUMBERS)
def test_every_number_is_counted_once(values: list[float | None]) -> None:
    found = describe_column(values, "number")
    assert isinstance(found, NumberReference)
    assert found.rows == len(values)
    assert found.missing == values.count(None)
    assert found.histogram.rows + found.missing == len(values)


@given(WORDS)
def test_every_word_is_counted_once(values: list[str | None]) -> None:
    found = describe_column(values, "category")
    assert isinstance(found, CategoryReference)
    assert found.rows == len(values)
    assert found.missing == values.count(None)


@given(NUMBERS, WORDS)
def test_references_read_back_equal(numbers: list[float | None], words: list[str | None]) -> None:
    made = describe(
        {"x": numbers, "w": words, "b": [True, None]},
        {"x": "number", "w": "category", "b": "boolean"},
        [0.5, 0.1],
        [1.5],
    )
    assert from_plain(Reference, json.loads(canonical(made))) == made


def test_order_of_rows_does_not_matter() -> None:
    x = np.random.default_rng(0).normal(size=500)
    assert describe_column(x, "number").rows == 500
    left, right = describe_column(np.sort(x), "number"), describe_column(np.sort(x)[::-1], "number")
    assert isinstance(left, NumberReference)
    assert isinstance(right, NumberReference)
    assert (left.edges, left.counts) == (right.edges, right.counts)


def test_nan_is_missing() -> None:
    found = describe_column(np.array([1.0, math.nan]), "number")
    assert (found.missing, found.rows) == (1, 2)


def test_targets_of_each_task() -> None:
    binary = describe({}, {}, [0.1], np.array([True, False, False, False]))
    assert binary.target_rate == 0.25
    classes = describe({}, {}, ["a", "b"], ["a", "b", "b"])
    assert (classes.target_rate, classes.target, classes.score.rows) == (
        None,
        CategoryReference({"a": 1, "b": 2}, 0),
        2,
    )
    assert describe({}, {}, [1.0], [1.0, 3.0]).target_rate == 2.0


def test_a_column_without_a_kind_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no kind for x"):
        describe({"x": [1.0]}, {}, [0.5], [True])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_that_cannot_be_summarised_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"the values of big are too large.*min and max"):
        describe({"big": [1.7e308, -1.7e308, 1.0]}, {"big": "number"}, [0.5], [True, False, True])
    assert describe({"none": [None, None]}, {"none": "number"}, [0.5], [True, False]).features["none"].missing == 2
