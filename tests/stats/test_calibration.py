"""Calibration: learns what scores mean, never falls, stays finite; the check refuses at its level and finds what changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.stats.calibration import Calibration, calibrate, check

Curve = Callable[[np.ndarray], np.ndarray]


def drawn(seed: int, rows: int, chance: Curve = lambda s: s) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    s = rng.random(rows)
    return rng.random(rows) < chance(s), s


@pytest.mark.parametrize("curve", [lambda s: s, lambda s: s**2, lambda s: 0.3 * s, np.sqrt])
def test_it_learns_the_curve(curve: Curve) -> None:
    found = calibrate(*drawn(0, 20_000, curve))
    grid = np.linspace(0.05, 0.95, 19)
    assert np.abs(found(grid) - curve(grid)).max() < 0.04


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=50))
def test_it_never_falls_and_is_a_probability(rows: list[tuple[bool, float]]) -> None:
    y, s = map(list, zip(*rows, strict=True))
    if all(y) or not any(y):
        with pytest.raises(InvalidInput):
            calibrate(y, s)
        return
    found = calibrate(y, s)
    values = found(np.linspace(0, 1, 101))
    assert np.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values) >= -1e-12).all()


def test_few_rows_stay_near_the_scores() -> None:
    y, s = drawn(3, 30)
    assert np.abs(calibrate(y, s)(s) - s).mean() < 0.06


def test_the_check_errs_as_often_as_it_says() -> None:
    """1,000 windows on which the calibration holds: at p < 0.05 about a twentieth is refused (the prior makes it rarer)."""
    refused = sum(check(Calibration(), *drawn(seed, 500)).p_value < 0.05 for seed in range(1_000))
    assert refused <= 65
    assert not any(check(Calibration(), *drawn(seed, 500)).p_value < 0.0005 for seed in range(300))


@pytest.mark.parametrize("curve", [lambda s: 0.8 * s, lambda s: s**1.5, lambda s: 1 - s, lambda s: 0.25 + s / 2])
def test_the_check_finds_what_changed(curve: Curve) -> None:
    found = check(Calibration(), *drawn(5, 2_000, curve))
    assert found.p_value < 1e-6
    assert found.shift > 0.03


def test_windows_of_one_class() -> None:
    s = np.full(500, 0.02)
    assert check(Calibration(), np.zeros(500), s).p_value < 0.01
    assert check(Calibration(), np.zeros(50), s[:50]).p_value > 0.2
    assert check(Calibration(), np.ones(500), s).p_value == 0.0
    with pytest.raises(InvalidInput):
        check(Calibration(), [], [])
