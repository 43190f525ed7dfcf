"""Trends: a slow rise that would pass its limit is one, noise is none, overlapping windows prove nothing, swings are told."""

from dataclasses import replace

import numpy as np
import pytest

from ecluse.core.errors import DeclarationError
from ecluse.core.loop_settings import Monitoring
from ecluse.core.verdict import Outcome
from ecluse.monitoring.trend import INPUTS, MEAN, SCORES, Point, chain, judge_trend

LIMITS = Monitoring(performance={"roc_auc": 0.75})


def _points(**series: list[float]) -> list[Point]:
    windows = len(next(iter(series.values())))
    return [
        Point(f"{i:03d}", f"{i:03d}.9", 1, 1_000, {name: values[i] for name, values in series.items()})
        for i in range(windows)
    ]


def _failed(points: list[Point], limits: Monitoring = LIMITS) -> set[tuple[str, str]]:
    return {(f.check, f.subject) for f in judge_trend(points, limits) if f.outcome is Outcome.FAILED}


def test_a_slow_rise_that_passes_its_limit_soon_is_a_trend() -> None:
    rising = [0.02 * i for i in range(8)]
    assert _failed(_points(**{SCORES: rising, INPUTS: [0.01] * 8})) == {("trend", SCORES)}
    assert not _failed(_points(**{SCORES: [value / 20 for value in rising]})), "too slow to matter"
    assert not _failed(_points(**{SCORES: rising[::-1]})), "getting better is no breach"


def test_performance_that_declines_is_a_trend_before_it_passes_its_floor() -> None:
    declining = [0.86, 0.85, 0.843, 0.835, 0.82, 0.81, 0.80, 0.79]
    [finding] = [f for f in judge_trend(_points(roc_auc=declining), LIMITS) if f.outcome is Outcome.FAILED]
    assert finding.subject == "roc_auc"
    assert "fell by" in finding.why
    assert not _failed(_points(roc_auc=declining[::-1]))
    rmse = Monitoring(performance={"rmse": 1.0})
    assert _failed(_points(rmse=[0.5, 0.55, 0.6, 0.66, 0.7, 0.77, 0.8]), rmse) == {("trend", "rmse")}


def test_too_few_windows_say_nothing_and_calm_ones_that_they_are_calm() -> None:
    assert judge_trend(_points(**{SCORES: [0.1, 0.2, 0.3, 0.4]}), LIMITS) == []
    rng = np.random.default_rng(0)
    [finding] = judge_trend(_points(**{SCORES: list(rng.random(10) * 0.05), MEAN: [0.0] * 10}), LIMITS)
    assert finding.passed
    assert judge_trend(_points(**{SCORES: [0.02 * i for i in range(8)]}), replace(LIMITS, trend=0.0)) == []


def test_noise_is_seldom_a_trend() -> None:
    alarms = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        noise = {SCORES: rng.random(10) * 0.3, INPUTS: rng.random(10) * 0.3, "roc_auc": 0.8 + rng.random(10) / 20}
        alarms += bool(_failed(_points(**{name: list(values) for name, values in noise.items()})))
    assert alarms <= 500 * LIMITS.trend


def test_scores_that_swing_between_windows_are_told_but_not_a_slow_walk() -> None:
    swings = [0.0, 1.2, -0.9, 1.1, -1.0, 0.8]
    assert _failed(_points(**{MEAN: swings})) == {("variance", "score")}
    assert not _failed(_points(**{MEAN: [0.2 * i for i in range(8)]})), "a slow move is no swing"
    assert not _failed(_points(**{MEAN: [0.0, 0.04, -0.03, 0.05, 0.0, 0.02]})), "sampling alone does as much"


def test_only_windows_that_do_not_overlap_are_a_chain() -> None:
    sliding = [Point(f"{i:03d}", f"{i + 5:03d}", 1, 10, {}) for i in range(30)]
    kept = chain(sliding, 10)
    assert [each.first for each in kept] == ["000", "006", "012", "018", "024"]
    assert len(chain(_points(**{SCORES: [0.0] * 30}), 10)) == 10
    assert chain([Point("", "", 1, 0, {})], 10) == ()


@pytest.mark.parametrize("wrong", [{"trend": 1.0}, {"trend_windows": 4}, {"false_discoveries": 0.0}])
def test_settings_that_would_refuse_everything_or_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(DeclarationError):
        Monitoring(**wrong)  # type: ignore[arg-type]
