"""PSI: the textbook number, never exploding, and with the noise it has when nothing moved."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.stats.histogram import count, reference_edges
from ecluse.stats.psi import psi, psi_critical, psi_minimum_sample, psi_noise


def test_the_textbook_formula_without_empty_bins() -> None:
    r, c = np.array([100, 300, 600]), np.array([200, 300, 500])
    share_r, share_c = r / r.sum(), c / c.sum()
    assert psi(r, c, pseudo=1e-12) == pytest.approx(((share_c - share_r) * np.log(share_c / share_r)).sum())


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=2, max_size=20))
def test_bounds_order_and_symmetry(rows: list[tuple[int, int]]) -> None:
    r, c = map(list, zip(*rows, strict=True))
    r[0], c[0] = r[0] + 1, c[0] + 1
    found = psi(r, c)
    assert found >= 0
    assert math.isfinite(found)
    assert psi(c, r) == pytest.approx(found)
    assert psi(r[::-1], c[::-1]) == pytest.approx(found)
    assert psi(r, r) == 0


def test_one_emptied_bin_does_not_explode() -> None:
    r, c = [10, *[110] * 9], [0, *[111] * 9]
    assert 0 < psi(r, c) < 0.05


def test_no_rows_is_nan_and_nonsense_is_refused() -> None:
    assert math.isnan(psi([1, 1], [0, 0]))
    with pytest.raises(InvalidInput):
        psi([1, 1], [1, 1], pseudo=0)
    with pytest.raises(InvalidInput):
        psi([1, 1], [1])
    with pytest.raises(InvalidInput):
        psi_noise(0, 10, 5)
    with pytest.raises(InvalidInput):
        psi_critical(10, 10, 5, confidence=1.0)


@pytest.mark.parametrize(("n", "m", "bins"), [(5000, 500, 20), (2000, 2000, 10), (1000, 200, 5)])
def test_noise_and_critical_value_hold_under_no_drift(n: int, m: int, bins: int) -> None:
    random = np.random.default_rng(7)
    shares = np.full(bins, 1 / bins)
    found = np.array([psi(random.multinomial(n, shares), random.multinomial(m, shares)) for _ in range(1500)])
    assert found.mean() == pytest.approx(psi_noise(n, m, bins), rel=0.08)
    assert (found > psi_critical(n, m, bins, 0.95)).mean() == pytest.approx(0.05, abs=0.02)


def test_the_noise_also_holds_through_reference_edges() -> None:
    random = np.random.default_rng(9)
    found = []
    for _ in range(300):
        reference = random.normal(size=3000)
        edges = reference_edges(reference)
        found.append(psi(count(reference, edges).counts, count(random.normal(size=600), edges).counts))
    assert np.mean(found) == pytest.approx(psi_noise(3000, 600, 20), rel=0.1)


def test_the_minimum_sample_is_the_first_that_stands_above_the_noise() -> None:
    rows = psi_minimum_sample(5000, 20, 0.2)
    assert psi_critical(5000, int(rows), 20) <= 0.2 < psi_critical(5000, int(rows) - 1, 20)
    assert psi_minimum_sample(100, 20, 0.1) == math.inf
    assert psi_critical(10, 10, 1) == psi_noise(10, 10, 1) == 0
    assert psi_minimum_sample(10, 1, 0.1) == 0
