"""Drift of a column: found when it is there, not found when it is not, whatever the number of rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitoring.records import KINDS, population

from ecluse.monitoring.drift.column import compare, pooled
from ecluse.stats.reference import describe_column

SIZES = (200, 500, 2_000, 20_000)


def _effects(name: str, rows: int, seed: int, **moved: float) -> dict[str, Any]:
    reference = describe_column(population(7_000, 0)[name], KINDS[name])
    return {m.name: m for m in compare(reference, population(rows, seed, **moved)[name])}


@pytest.mark.parametrize("rows", SIZES)
def test_no_statistic_of_unmoved_data_is_clear_and_large(rows: int) -> None:
    limits = {"psi": 0.1, "jensen_shannon": 0.1, "mean_shift": 0.25, "missing": 0.05, "unseen": 0.01}
    for seed in range(1, 11):
        for name in KINDS:
            for measured in _effects(name, rows, seed).values():
                assert not (measured.clear and measured.effect > limits[measured.name]), (name, measured)


@pytest.mark.parametrize("rows", SIZES)
def test_the_effect_does_not_depend_on_the_number_of_rows(rows: int) -> None:
    found = [_effects("hours", rows, seed, shift=0.8) for seed in range(1, 6)]
    psi = np.mean([each["psi"].effect for each in found])
    assert psi == pytest.approx(0.63, abs=0.12)
    assert np.mean([each["mean_shift"].effect for each in found]) == pytest.approx(0.8, abs=0.06)
    assert all(each["psi"].clear and each["mean_shift"].clear and each["jensen_shannon"].clear for each in found)


def test_values_gone_missing_are_seen() -> None:
    missing = _effects("hours", 1_000, 1, missing=0.3)["missing"]
    assert missing.clear
    assert missing.effect == pytest.approx(0.3, abs=0.05)
    assert not _effects("hours", 1_000, 1)["missing"].clear


def test_a_column_that_went_missing_altogether_has_no_distance_but_says_so() -> None:
    reference = describe_column([1.0, 2.0, 3.0] * 100, "number")
    assert [(m.name, m.effect, m.clear) for m in compare(reference, [None] * 300)] == [("missing", 1.0, True)]


def test_values_never_seen_are_counted_net_of_those_one_expects() -> None:
    reference = describe_column(["a"] * 900 + ["b"] * 100, "category")
    unseen = {m.name: m for m in compare(reference, ["a"] * 95 + ["z"] * 5)}["unseen"]
    assert (unseen.value, unseen.effect, unseen.clear) == (0.05, 0.05, True)
    once = describe_column([f"id{i}" for i in range(1_000)], "category")  # every value is new anyway
    assert {m.name: m for m in compare(once, [f"new{i}" for i in range(300)])}["unseen"].effect == 0.0


def test_a_constant_column_that_moves_is_seen_without_infinite_deviations() -> None:
    reference = describe_column([5.0] * 1_000, "number")
    found = {m.name: m for m in compare(reference, [6.0] * 300)}
    assert "mean_shift" not in found
    assert found["psi"].clear
    assert found["psi"].effect > 1


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 500), max_size=8),
    st.dictionaries(st.text(max_size=3), st.integers(0, 500), max_size=8),
)
def test_pooling_loses_no_row(reference: dict[str, int], current: dict[str, int]) -> None:
    before, now = pooled(reference, current)
    assert (sum(before), sum(now)) == (sum(reference.values()), sum(current.values()))
    assert len(before) == len(now) >= 1


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=1, max_size=60))
def test_every_number_measured_is_finite(values: list[float | None]) -> None:
    reference = describe_column(np.arange(100.0), "number")
    for measured in compare(reference, values):
        assert np.isfinite([measured.value, measured.effect]).all()
        assert measured.effect >= 0
