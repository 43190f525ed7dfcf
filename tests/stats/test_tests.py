"""Tests of hypotheses keep their level, and sizes of effect do not depend on how many rows were looked at."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ecluse.core.errors import InvalidInput
from ecluse.stats import chi_square, kolmogorov_smirnov, wasserstein, z_test
from ecluse.stats.false_discovery import benjamini_hochberg
from ecluse.stats.mann_kendall import mann_kendall


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_false_discovery_control_is_that_of_scipy(p_values: list[float], level: float) -> None:
    expected = stats.false_discovery_control(p_values) <= level
    found = benjamini_hochberg(p_values, level)
    ranked = np.sort(p_values)
    close = np.isclose(ranked, level * np.arange(1, len(ranked) + 1) / len(ranked), rtol=1e-12).any()
    assert close or found.tolist() == expected.tolist()


def test_false_discovery_control_leaves_out_what_could_not_be_tested() -> None:
    assert benjamini_hochberg([0.004, float("nan")], 0.005).tolist() == [True, False]
    assert benjamini_hochberg([], 0.01).tolist() == []
    with pytest.raises(InvalidInput):
        benjamini_hochberg([0.1], 1.0)
    with pytest.raises(InvalidInput):
        benjamini_hochberg([1.1], 0.1)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_mann_kendall_counts_every_order(n: int) -> None:
    scores = [
        sum(np.sign(order[j] - order[i]) for i, j in itertools.combinations(range(n), 2))
        for order in itertools.permutations(range(n))
    ]
    for order in ([*range(n)], [*range(1, n), 0], [1, 0, *range(2, n)]):
        score = sum(np.sign(order[j] - order[i]) for i, j in itertools.combinations(range(n), 2))
        share = float(np.mean(np.abs(scores) >= abs(score)))
        assert mann_kendall(order).p_value == pytest.approx(min(1.0, share))


@given(st.lists(st.integers(0, 6), min_size=4, max_size=40))
def test_mann_kendall_agrees_with_kendalls_tau_on_ties(series: list[int]) -> None:
    found = mann_kendall(series)
    assert -1 <= found.tau <= 1
    assert 0 <= found.p_value <= 1
    assert mann_kendall([-value for value in series]).slope == pytest.approx(-found.slope)
    if len(set(series)) == 1:
        assert found.p_value == 1.0


def test_mann_kendall_needs_four_values() -> None:
    assert np.isnan(mann_kendall([1.0, 2.0, 3.0]).p_value)
    with pytest.raises(InvalidInput):
        mann_kendall([1.0, 2.0, 3.0, float("inf")])


def test_z_of_means_is_that_of_welch() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 900), rng.normal(0.1, 1, 800)
    ours = z_test.means(a.mean(), a.std(), a.size, b.mean(), b.std(), b.size)
    assert ours.z == pytest.approx(-stats.ttest_ind(a, b, equal_var=False).statistic, rel=0.02)
    assert np.isnan(z_test.means(0.0, 0.0, 5, 1.0, 0.0, 5).p_value)
    assert np.isnan(z_test.shares(0, 0, 1, 5).p_value)
    assert z_test.shares(0, 1_000, 0, 1_000).p_value == 1.0


@given(st.lists(st.integers(0, 400), min_size=2, max_size=9), st.integers(1, 50))
def test_balanced_v_does_not_depend_on_how_many_rows_a_side_has(shares: list[int], times: int) -> None:
    before = [10 * (place + 1) for place in range(len(shares))]
    if sum(shares):
        alike = chi_square.balanced_v(before, shares), chi_square.balanced_v(before, [times * each for each in shares])
        assert alike[0] == pytest.approx(alike[1])
        assert 0 <= alike[0] <= 1


def test_balanced_v_is_cramers_of_equal_rows() -> None:
    assert chi_square.balanced_v([60, 40], [45, 55]) == pytest.approx(
        chi_square.chi_square([60, 40], [45, 55]).cramers_v
    )


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0, 10.0])
def test_wasserstein_of_bins_is_near_the_exact_one(shift: float) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20_000), rng.normal(shift, 1, 20_000)
    edges = np.unique(np.quantile(a, np.linspace(0, 1, 101)[1:-1]))
    before, now = (np.bincount(np.searchsorted(edges, x), minlength=edges.size + 1) for x in (a, b))
    found = wasserstein.from_counts(edges, before, now, float(b.mean() - a.mean()))
    assert found == pytest.approx(wasserstein.wasserstein(a, b), abs=0.01)


def test_the_noise_taken_off_is_what_unmoved_samples_show() -> None:
    gaps, distances = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=4_000), rng.normal(size=500)
        gaps.append(kolmogorov_smirnov.from_samples(a, b).statistic)
        distances.append(wasserstein.wasserstein(a, b))
    assert np.mean(gaps) == pytest.approx(kolmogorov_smirnov.kolmogorov_noise(4_000, 500), rel=0.08)
    points = np.quantile(np.random.default_rng(0).normal(size=100_000), np.linspace(0, 1, 101))
    noise = wasserstein.wasserstein_noise(points, [40] * 100, 500)
    assert np.mean(distances) == pytest.approx(noise, rel=0.12)
