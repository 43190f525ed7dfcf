"""Histograms: every value in exactly one bin, edges that make sense on continuous, discrete and constant columns."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.stats.histogram import Histogram, Summary, count, quantiles, reference_edges, summarize
from ecluse.stats.psi import psi

VALUES = st.lists(st.one_of(st.integers(-5, 5).map(float), st.floats(), st.just(float("nan"))), max_size=60)


@given(VALUES, VALUES, st.integers(1, 30))
@example(reference=[-sys.float_info.max], current=[], bins=1)
def test_every_value_lands_in_exactly_one_bin(reference: list[float], current: list[float], bins: int) -> None:
    edges = reference_edges(reference, bins)
    assert len(edges) <= max(bins - 1, 2)
    assert all(low < high for low, high in pairwise(edges))
    found = count(current, edges)
    assert found.rows + found.missing == len(current)
    assert len(found.counts) == len(edges) + 1
    assert count(current[::-1], edges) == found


def test_bins_of_a_continuous_column_have_equal_mass() -> None:
    x = np.random.default_rng(0).lognormal(size=4000)
    found = count(x, reference_edges(x, 20))
    assert found.counts == [200] * 20


def test_repeated_values_share_an_edge_and_no_reference_bin_above_is_empty() -> None:
    x = [0.0] * 900 + list(np.linspace(1, 2, 100))
    edges = reference_edges(x, 20)
    assert edges[0] == 0.0
    assert min(count(x, edges).counts) > 0
    assert count([0.0, 1.0, 1.0], reference_edges([0.0, 1.0, 1.0])).counts == [1, 2]


@pytest.mark.parametrize("moved", [4.0, 6.0])
def test_a_constant_column_that_moves_is_seen(moved: float) -> None:
    edges = reference_edges([5.0] * 100)
    reference = count([5.0] * 100, edges)
    assert reference.counts == [0, 100, 0]
    assert psi(reference.counts, count([5.0] * 100, edges).counts) == 0
    assert psi(reference.counts, count([moved] * 100, edges).counts) > 1


def test_no_values_no_edges_and_infinities_are_counted_not_cut_at() -> None:
    assert reference_edges([]) == [] == reference_edges([float("nan")])
    assert count([1.0, float("nan")], []) == Histogram([], [1], 1)
    x = [-np.inf, 1.0, 2.0, 3.0, np.inf]
    edges = reference_edges(x, 3)
    assert np.isfinite(edges).all()
    assert count(x, edges).rows == 5


def test_it_is_json_and_comes_back() -> None:
    x = np.random.default_rng(1).normal(size=100)
    found = count(x, reference_edges(x))
    text = json.dumps(asdict(found), allow_nan=False)
    assert Histogram(**json.loads(text)) == found
    json.dumps(quantiles(x), allow_nan=False)
    json.dumps(asdict(summarize(x)), allow_nan=False)
    json.dumps(asdict(summarize([float("nan")])), allow_nan=False)


def test_summary() -> None:
    x = np.random.default_rng(2).normal(3, 2, 500)
    found = summarize([*x, float("nan")])
    assert (found.count, found.missing) == (500, 1)
    assert (found.mean, found.sd, found.min, found.max) == pytest.approx((x.mean(), x.std(), x.min(), x.max()))
    assert summarize([]) == Summary(0, 0, None, None, None, None)


def test_quantiles_rise_from_smallest_to_largest() -> None:
    x = np.random.default_rng(3).normal(size=57)
    found = quantiles([*x, float("nan")], 11)
    assert found == sorted(found)
    assert (found[0], found[-1], len(found)) == (x.min(), x.max(), 11)
    assert quantiles([]) == []


def test_nonsense_is_refused() -> None:
    for call in (
        lambda: reference_edges([1.0], 0),
        lambda: count([1.0], [2.0, 1.0]),
        lambda: count([1.0], [1.0, 1.0]),
        lambda: count([1.0], [float("nan")]),
        lambda: count([[1.0]], []),
        lambda: quantiles([1.0], 1),
        lambda: Histogram([1.0], [1], 0),
    ):
        with pytest.raises(InvalidInput):
            call()
