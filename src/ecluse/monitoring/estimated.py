"""Estimated performance while labels are late: expected metrics of calibrated scores, held against what turned out true as far as it has.

Calibrated on the version's validation scores, and on every window of matured truths since on which the calibration held. Each matured window
is first estimated as if its truths were unknown, by what was known before it: the errors of those estimates are shown beside the next one.
Where the calibration fails on the newest matured window, the same scores mean something else by now (concept change), and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecluse.core.verdict import Finding, Outcome, at_least, at_most
from ecluse.stats.calibration import Calibration, Fit, calibrate, check
from ecluse.stats.catalog import measure, metric_of
from ecluse.stats.expected import expected_binary, expected_multiclass

Array = NDArray[np.float64]
P_VALUE = 0.001
SHIFT = 0.03
"""A calibration fails on a window when it is refuted (likelihood ratio below ``P_VALUE``) and its probabilities lie on average more than
``SHIFT`` off: beyond that an estimated ROC-AUC was seldom within 0.02 of the realised one."""


@dataclass(frozen=True)
class Rows:
    """Scores (n,) of the positive class, or (n, k), with truths (n,) as 0/1 or class codes (empty while unknown); times of both ends."""

    scores: Array
    y: Array
    first: str = ""
    last: str = ""


@dataclass(frozen=True)
class PastWindow:
    """A matured window: what was estimated of it without its truths, what turned out, and whether the calibration held on it."""

    first: str
    last: str
    rows: int
    estimated: Mapping[str, float]
    realised: Mapping[str, float]
    p_value: float
    shift: float
    holds: bool


@dataclass(frozen=True)
class Estimated:
    """Of ``rows`` answers that wait for their truths. ``metrics`` is empty when nothing can be known (``why`` says so); ``error`` is per metric
    the mean distance of past estimates from what turned out, ``worst`` the largest; ``checked`` whether any window has matured.
    """

    rows: int
    metrics: Mapping[str, float]
    error: Mapping[str, float] = field(default_factory=dict)
    worst: Mapping[str, float] = field(default_factory=dict)
    windows: tuple[PastWindow, ...] = ()
    knows: bool = False
    checked: bool = False
    why: str = ""


def estimate(
    task: str, validation: Rows, matured: Sequence[Rows], waiting: Rows, threshold: float, *, least: int = 1
) -> Estimated:
    """Estimate a binary or multi-class version on ``waiting`` rows. ``matured`` windows oldest first. O(windows × rows).

    Nothing is claimed for other tasks, for fewer than ``least`` waiting rows, or without validation rows of both classes.
    """
    count = len(waiting.scores)
    if task not in ("binary", "multiclass"):
        return Estimated(count, {}, why="the answers of a regression carry no confidence to estimate from")
    known, windows = [validation], list[PastWindow]()
    curves = _fit(task, known)
    if curves is None:
        return Estimated(count, {}, why="the validation scores show one class only")
    for each in matured:
        past = _past(task, curves, each, threshold)
        windows.append(past)
        if past.holds:
            known.append(each)
            curves = _fit(task, known) or curves
    error, worst = _errors(windows)
    why = _why(windows, count, least)
    knows = not why
    metrics = _expected(task, curves, waiting.scores, threshold) if knows else {}
    return Estimated(count, metrics, error, worst, tuple(windows), knows, bool(windows), why)


def judge_estimated(task: str, version: int, found: Estimated, limits: Mapping[str, float]) -> list[Finding]:
    """A finding per declared limit that can be estimated: INCONCLUSIVE where nothing is known, or no estimate was ever held against truths.

    For people: no decision is taken on it.
    """
    findings = []
    for name, limit in limits.items():
        if found.knows and name not in found.metrics:
            continue
        value = found.metrics.get(name)
        if value is None or not found.checked:
            why = found.why or f"{name} is estimated as {value:.4g}, but no window has matured to check estimates on"
            findings.append(Finding("estimated", Outcome.INCONCLUSIVE, why, value, limit, name))
            continue
        compare = at_least if metric_of(task, name).greater_is_better else at_most
        findings.append(compare("estimated", value, limit, subject=name))
    return findings


def _why(windows: Sequence[PastWindow], rows: int, least: int) -> str:
    if windows and not windows[-1].holds:
        last = windows[-1]
        return (
            f"cannot know: on the newest matured window, up to {last.last}, the probabilities were off by {last.shift:.1%} on average "
            f"(p = {last.p_value:.1e}): the same scores mean something else now"
        )
    return f"{rows:,} answers wait for their truths: too few, at least {least:,}" if rows < least else ""


def _past(task: str, curves: Sequence[Calibration], rows: Rows, threshold: float) -> PastWindow:
    estimated = _expected(task, curves, rows.scores, threshold)
    turned_out = measure(task, rows.y, rows.scores, threshold=threshold, names=estimated)
    fits = _check(task, curves, rows)
    p_value = min(1.0, min(each.p_value for each in fits) * len(fits))
    shift = max(each.shift for each in fits)
    holds = not (p_value < P_VALUE and shift > SHIFT)
    found = {name: value for name, value in turned_out.items() if name in estimated and np.isfinite(value)}
    return PastWindow(rows.first, rows.last, len(rows.y), estimated, found, p_value, shift, holds)


def _errors(windows: Sequence[PastWindow]) -> tuple[dict[str, float], dict[str, float]]:
    off: dict[str, list[float]] = {}
    for each in windows:
        for name in each.estimated.keys() & each.realised.keys():
            off.setdefault(name, []).append(abs(each.estimated[name] - each.realised[name]))
    return {name: float(np.mean(off[name])) for name in sorted(off)}, {name: max(off[name]) for name in sorted(off)}


def _expected(task: str, curves: Sequence[Calibration], scores: Array, threshold: float) -> dict[str, float]:
    if task == "binary":
        found = expected_binary(scores, curves[0](scores), threshold)
    else:
        shares = np.column_stack([curve(scores[:, j]) for j, curve in enumerate(curves)])
        found = expected_multiclass(scores, shares / shares.sum(axis=1, keepdims=True))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _fit(task: str, parts: Sequence[Rows]) -> list[Calibration] | None:
    """One calibration, or one a class against the rest; a class nobody had is left as scored. None when there is nothing to learn from."""
    y, scores = np.concatenate([each.y for each in parts]), np.concatenate([each.scores for each in parts])
    if np.unique(y).size < 2:
        return None
    if task == "binary":
        return [calibrate(y, scores)]
    return [calibrate(y == j, scores[:, j]) if (y == j).any() else Calibration() for j in range(scores.shape[1])]


def _check(task: str, curves: Sequence[Calibration], rows: Rows) -> list[Fit]:
    if task == "binary":
        return [check(curves[0], rows.y, rows.scores)]
    return [check(curve, rows.y == j, rows.scores[:, j]) for j, curve in enumerate(curves)]
