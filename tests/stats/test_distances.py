"""The distances on bins and samples: equal to scipy where it has them, bounded, symmetric, quiet without drift."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from ecluse.core.errors import InvalidInput
from ecluse.stats import kolmogorov_smirnov as ks
from ecluse.stats import wasserstein as w
from ecluse.stats.chi_square import chi_square
from ecluse.stats.histogram import quantiles
from ecluse.stats.jensen_shannon import jensen_shannon
from ecluse.stats.mean_shift import mean_shift, mean_shift_noise

SAMPLES = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=40)


def two_counts() -> st.SearchStrategy[tuple[list[int], list[int]]]:
    row = st.tuples(st.integers(0, 50), st.integers(0, 50))
    return st.lists(row, min_size=2, max_size=12).map(lambda rows: ([r for r, _ in rows], [c for _, c in rows]))


@given(two_counts())
def test_jensen_shannon_equals_scipy_and_is_bounded_and_symmetric(both: tuple[list[int], list[int]]) -> None:
    r, c = both
    assume(sum(r) and sum(c))
    assert jensen_shannon(r, c, pseudo=0) ** 2 == pytest.approx(distance.jensenshannon(r, c, base=2) ** 2, abs=1e-12)
    assert 0 <= jensen_shannon(r, c) <= 1
    assert jensen_shannon(r, c) == pytest.approx(jensen_shannon(c, r), abs=1e-9)
    assert jensen_shannon(r, r) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon(r[::-1], c[::-1]) == pytest.approx(jensen_shannon(r, c), abs=1e-7)


@given(two_counts())
def test_chi_square_equals_scipy(both: tuple[list[int], list[int]]) -> None:
    r, c = map(np.array, both)
    assume(r.sum() and c.sum() and (r + c > 0).sum() > 1)
    theirs = stats.chi2_contingency(np.stack([r, c])[:, r + c > 0], correction=False)
    ours = chi_square(r, c)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12, abs=1e-12)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-12)
    assert ours.freedom == theirs.dof
    assert 0 <= ours.cramers_v <= 1
    assert chi_square(c, r) == pytest.approx(ours)


def test_chi_square_without_anything_to_compare() -> None:
    assert chi_square([5, 0], [9, 0]) == (0.0, 0, 1.0, 0.0)
    assert math.isnan(chi_square([5, 1], [0, 0]).p_value)


def test_chi_square_rejects_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    shares = [0.4, 0.3, 0.2, 0.1]
    p = [chi_square(random.multinomial(600, shares), random.multinomial(300, shares)).p_value for _ in range(1000)]
    assert 0.025 < np.mean(np.array(p) < 0.05) < 0.08


@given(SAMPLES, SAMPLES)
def test_kolmogorov_smirnov_statistic_equals_scipy(r: list[float], c: list[float]) -> None:
    ours = ks.from_samples(r, c)
    assert ours.statistic == pytest.approx(stats.ks_2samp(r, c, method="asymp").statistic, abs=1e-12)
    assert 0 <= ours.p_value <= 1
    assert ks.from_samples(c, r) == pytest.approx(ours)
    assert ks.from_samples(np.exp(np.array(r) / 9), np.exp(np.array(c) / 9)).statistic == pytest.approx(ours.statistic)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.3])
def test_kolmogorov_smirnov_p_value_is_close_to_the_exact_one(shift: float) -> None:
    random = np.random.default_rng(8)
    r, c = random.normal(size=150), random.normal(size=120) + shift
    assert ks.from_samples(r, c).p_value == pytest.approx(stats.ks_2samp(r, c, method="exact").pvalue, abs=0.02)


@given(SAMPLES, SAMPLES, st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=6, unique=True))
def test_kolmogorov_smirnov_on_bins_never_exceeds_the_exact_one(
    r: list[float], c: list[float], cuts: list[float]
) -> None:
    edges = [-np.inf, *sorted(cuts), np.inf]
    binned = ks.from_counts(np.histogram(r, edges)[0], np.histogram(c, edges)[0])
    assert binned.statistic <= ks.from_samples(r, c).statistic + 1e-12


def test_quantile_sketches_come_close_to_the_samples() -> None:
    random = np.random.default_rng(2)
    r, c = random.gamma(2.0, size=20_000), random.gamma(2.0, size=3_000) * 1.3
    sketch = quantiles(r, 101)
    assert ks.from_quantiles(sketch, r.size, c).statistic == pytest.approx(ks.from_samples(r, c).statistic, abs=0.01)
    assert ks.from_quantiles(sketch, r.size, c).p_value < 1e-9
    assert w.from_quantiles(sketch, c) == pytest.approx(w.wasserstein(r, c), rel=0.05)


def test_the_quantile_sketch_sees_jumps_of_discrete_columns() -> None:
    sketch = quantiles([0.0] * 70 + [1.0] * 30, 101)
    same = ks.from_quantiles(sketch, 100, [0.0] * 7 + [1.0] * 3).statistic
    assert same == pytest.approx(0, abs=0.011)
    assert ks.from_quantiles(sketch, 100, [1.0] * 10).statistic == pytest.approx(0.7, abs=0.011)
    assert ks.from_quantiles(sketch, 100, [0.5] * 10).statistic == pytest.approx(0.7, abs=0.011)
    assert ks.from_quantiles(sketch, 100, [2.0] * 10).statistic == 1.0
    assert ks.from_quantiles(sketch, 100, [-1.0] * 10).statistic == 1.0


@given(SAMPLES, SAMPLES)
def test_wasserstein_equals_scipy(r: list[float], c: list[float]) -> None:
    ours = w.wasserstein(r, c)
    assert ours == pytest.approx(stats.wasserstein_distance(r, c), rel=1e-9, abs=1e-9)
    assert w.wasserstein(c, r) == pytest.approx(ours)
    assert w.wasserstein(np.array(r) * 3 + 1, np.array(c) * 3 + 1) == pytest.approx(3 * ours, abs=1e-9)
    assert ours >= abs(np.mean(r) - np.mean(c)) - 1e-9


def test_mean_shift_counts_deviations_and_survives_a_constant_reference() -> None:
    assert mean_shift(5.0, 2.0, [1.0, float("nan")]) == -2.0
    assert mean_shift(5.0, 0.0, [5.0, 5.0]) == 0.0
    assert mean_shift(5.0, 0.0, [6.0]) == math.inf
    assert mean_shift(5.0, 0.0, [4.0]) == -math.inf
    assert math.isnan(mean_shift(5.0, 1.0, []))
    random = np.random.default_rng(4)
    shifts = [mean_shift(r.mean(), r.std(), random.normal(size=50)) for r in random.normal(size=(2000, 200))]
    assert np.std(shifts) == pytest.approx(mean_shift_noise(200, 50), rel=0.06)


def test_missing_values_are_dropped_and_empty_sides_are_nan() -> None:
    nan = float("nan")
    assert ks.from_samples([1, nan, 2], [1, 2]).statistic == 0
    assert w.wasserstein([1, nan], [3]) == 2
    for value in (
        ks.from_samples([], [1]).statistic,
        ks.from_counts([1, 1], [0, 0]).statistic,
        ks.from_quantiles([0, 1], 10, [nan]).p_value,
        w.wasserstein([nan], [1]),
        w.from_quantiles([0, 1], []),
        jensen_shannon([0, 0], [1, 1]),
    ):
        assert math.isnan(value)


@pytest.mark.parametrize("function", [jensen_shannon, chi_square, ks.from_counts])
@pytest.mark.parametrize(("r", "c"), [([1, 2], [1]), ([], []), ([1, -1], [1, 1]), ([1, float("nan")], [1, 1])])
def test_counts_that_do_not_match_are_refused(function: object, r: list[float], c: list[float]) -> None:
    assert callable(function)
    with pytest.raises(InvalidInput):
        function(r, c)


def test_impossible_arguments_are_refused() -> None:
    for call in (
        lambda: jensen_shannon([1], [1], pseudo=-1),
        lambda: ks.from_quantiles([1], 5, [1]),
        lambda: ks.from_quantiles([2, 1], 5, [1]),
        lambda: ks.from_quantiles([1, 2], 0, [1]),
        lambda: w.from_quantiles([2, 1], [1]),
        lambda: mean_shift_noise(0, 5),
    ):
        with pytest.raises(InvalidInput):
            call()


def test_every_distance_grows_with_the_drift() -> None:
    random = np.random.default_rng(6)
    r, base = random.normal(size=4000), random.normal(size=4000)
    edges = [-np.inf, *np.quantile(r, np.linspace(0, 1, 11)[1:-1]), np.inf]

    def at(shift: float) -> list[float]:
        counts = np.histogram(r, edges)[0], np.histogram(base + shift, edges)[0]
        return [
            jensen_shannon(*counts),
            chi_square(*counts).cramers_v,
            ks.from_counts(*counts).statistic,
            ks.from_samples(r, base + shift).statistic,
            w.wasserstein(r, base + shift),
            mean_shift(r.mean(), r.std(), base + shift),
        ]

    for smaller, larger in pairwise([at(0.1), at(0.5), at(1.0)]):
        assert all(low < high for low, high in zip(smaller, larger, strict=True))
