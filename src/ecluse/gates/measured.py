"""Metrics on evidence: by name, at the right threshold, with costs; and how much better one set of answers is than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecluse.core.errors import DeclarationError, InvalidInput
from ecluse.core.settings import FILE, NonRegression
from ecluse.gates.evidence import Array, Evidence, Mask
from ecluse.stats.bootstrap import Interval, MetricFunction, paired_bootstrap
from ecluse.stats.catalog import Metric, metric_of

HALF = 0.5


def metric_named(task: str, name: str, where: str) -> Metric:
    """The metric a setting names. Raises DeclarationError with the key that names an unknown one."""
    try:
        return metric_of(task, name)
    except InvalidInput as error:
        raise DeclarationError(error.what, where=f"{FILE}: {where}", cure=error.cure) from None


def closed(metric: Metric, evidence: Evidence, threshold: float | None, where: str) -> MetricFunction:
    """The metric as ``f(y, answers)``. Raises DeclarationError for an expected value without declared costs."""
    try:
        return metric.closed(threshold=HALF if threshold is None else threshold, costs=evidence.costs)
    except InvalidInput as error:
        raise DeclarationError(f"{metric.name}: {error.what}", where=f"{FILE}: {where}", cure=error.cure) from None


def measured(evidence: Evidence, metric: Metric, where: str, rows: Mask | None = None) -> float:
    """The candidate's metric on the judged rows (or some); NaN where undefined or an answer is not finite."""
    y, answers = (evidence.y, evidence.answers) if rows is None else (evidence.y[rows], evidence.answers[rows])
    if not len(y) or not np.isfinite(answers).all():
        return float("nan")
    return closed(metric, evidence, evidence.threshold, where)(y, answers)


def called(metric: Metric, answers: Array, threshold: float | None) -> Array:
    """Answers made comparable at one threshold of 0.5: decisions as 0/1 for a metric of decisions, the answers themselves otherwise.

    >>> called(metric_of("binary", "f1"), np.array([0.2, 0.4]), 0.3).tolist()
    [0.0, 1.0]
    """
    if not metric.needs_threshold:
        return answers
    return (answers >= (HALF if threshold is None else threshold)).astype(np.float64)


def gain(
    evidence: Evidence,
    metric: Metric,
    old: Array,
    new: Array,
    rows: Mask,
    level: NonRegression,
    where: str,
) -> Interval:
    """How much better ``new`` is than ``old`` on the same ``rows``, positive for better whatever the metric's direction.

    A paired bootstrap by entity (``stats.bootstrap``), percentile interval at ``level.confidence``. Answers equal on every row differ by
    exactly 0 in every resample, so nothing is drawn for them. NaN where it cannot be measured.
    """
    old, new = old[rows], new[rows]
    if not rows.any() or not (np.isfinite(old).all() and np.isfinite(new).all()):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    if np.array_equal(old, new):
        return Interval(0.0, 0.0, 0.0, level.rounds)
    function = closed(metric, evidence, HALF, where)
    found = paired_bootstrap(
        function,
        evidence.y[rows],
        old,
        new,
        rounds=level.rounds,
        seed=evidence.seed,
        confidence=level.confidence,
        groups=evidence.keys[rows],
    )
    if metric.greater_is_better:
        return found
    return Interval(-found.estimate, -found.high, -found.low, found.rounds)


def names_of(values: Sequence[str] | npt.NDArray[np.str_], most: int = 5) -> str:
    """Some names in a sentence, the rest counted.

    >>> names_of(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(str(value) for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")
