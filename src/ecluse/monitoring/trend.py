"""Trend: what one window cannot show: scores or inputs that move a little each window, performance that declines, scores that swing.

Windows that overlap repeat each other, so only a chain of windows that do not is looked at, over all versions of a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt

from ecluse.core.loop_settings import Monitoring
from ecluse.core.verdict import Finding, Outcome
from ecluse.monitoring.watch import Watched
from ecluse.stats.catalog import METRICS
from ecluse.stats.false_discovery import benjamini_hochberg
from ecluse.stats.mann_kendall import mann_kendall

SCORES, INPUTS, MEAN = "prediction_psi", "input_psi", "score_mean"
FEWEST = 5


@dataclass(frozen=True)
class Point:
    """One judged window: the times of its ends, the version, its rows, and its numbers by series."""

    first: str
    last: str
    version: int
    rows: int
    values: Mapping[str, float]


def values_of(watched: Watched, metrics: Mapping[str, float], limits: Monitoring) -> dict[str, float]:
    """The series a window adds to: the scores' PSI and mean (reference deviations), the mean PSI of the inputs, the metrics with a limit."""
    inputs = [each.effects["psi"] for each in watched.shifts if "psi" in each.effects]
    found = {INPUTS: sum(inputs) / len(inputs)} if inputs else {}
    if watched.scores is not None and "psi" in watched.scores.effects:
        found[SCORES] = watched.scores.effects["psi"]
    if watched.scores is not None and "mean_shift" in watched.scores.measured:
        found[MEAN] = watched.scores.measured["mean_shift"]
    found |= {name: metrics[name] for name in limits.performance if name in metrics}
    return {name: round(value, 6) for name, value in found.items() if isfinite(value)}


def chain(points: Iterable[Point], windows: int) -> tuple[Point, ...]:
    """The last ``windows`` of the windows that do not overlap, each the first to begin after the one before it ended.

    >>> [p.first for p in chain([Point("1", "3", 1, 9, {}), Point("2", "4", 1, 9, {}), Point("5", "6", 1, 9, {})], 10)]
    ['1', '5']
    """
    kept: list[Point] = []
    for point in points:
        if point.rows and (not kept or point.first > kept[-1].last):
            kept.append(point)
    return tuple(kept[-windows:])


def judge_trend(points: Sequence[Point], limits: Monitoring) -> list[Finding]:
    """Findings over a chain of windows, oldest first; none for fewer than five.

    A series fails when it moves the wrong way significantly (false discoveries controlled over all series) and, carried on at Sen's slope
    for as many windows again, passes its limit: a decline too slow to matter is none.
    """
    if not limits.trend or len(points) < FEWEST:
        return []
    series = {name: [p.values[name] for p in points if name in p.values] for name in _limits(limits)}
    trends = {name: mann_kendall(values) for name, values in series.items() if len(values) >= FEWEST}
    believed = benjamini_hochberg([each.p_value for each in trends.values()], limits.trend).tolist()
    findings = []
    for (name, trend), significant in zip(trends.items(), believed, strict=True):
        limit, sign = _limits(limits)[name]
        ahead = series[name][-1] + trend.slope * limits.trend_windows
        failed = significant and trend.slope * sign > 0 and (ahead - limit) * sign > 0
        if failed:
            way = "rose" if trend.slope > 0 else "fell"
            why = f"{name} {way} by {abs(trend.slope):.3g} a window over {len(series[name])} windows: "
            beyond = (series[name][-1] - limit) * sign > 0
            why += (
                f"it is beyond {limit:g}"
                if beyond
                else f"at this pace it passes {limit:g} within {limits.trend_windows}"
            )
            findings.append(Finding("trend", Outcome.FAILED, why, ahead, limit, name))
    swings = _variance(points, limits)
    return findings + swings or [Finding("trend", Outcome.PASSED, f"no trend over {len(points)} windows")]


def _limits(limits: Monitoring) -> dict[str, tuple[float, int]]:
    """Series -> its limit and which way is wrong (+1: up)."""
    found = {SCORES: (limits.prediction_psi, 1), INPUTS: (limits.psi, 1)}
    for name, limit in limits.performance.items():
        found[name] = limit, -1 if name not in METRICS or METRICS[name].greater_is_better else 1
    return {name: each for name, each in found.items() if each[0] or name in limits.performance}


def _variance(points: Sequence[Point], limits: Monitoring) -> list[Finding]:
    """Swings of the mean score between neighbouring windows, net of what sampling does (von Neumann 1941: a slow trend does not count)."""
    known = [(p.values[MEAN], p.rows) for p in points if MEAN in p.values]
    if not limits.variance or len(known) < FEWEST:
        return []
    steps = [(b - a) ** 2 / 2 for (a, _), (b, _) in pairwise(known)]
    noise = sum(1 / rows for _, rows in known) / len(known)
    sd = sqrt(max(sum(steps) / len(steps) - noise, 0.0))
    if sd <= limits.variance:
        return []
    why = f"the mean score varies by {sd:.2f} sd between {len(known)} windows, passing {limits.variance:g}"
    return [Finding("variance", Outcome.FAILED, why, sd, limits.variance, "score")]
