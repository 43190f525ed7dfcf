"""Skew: what was served against what the same features are, recomputed as of the moment they were computed; and how old they were then.

Two different faults. A value that differs is *skew*: two roads to a feature disagree, or the online store holds what the tables do not say.
A value that is right but of long ago is *staleness*. Neither is drift, and no retraining cures them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ecluse.core.expression import Value
from ecluse.core.instants import parse_instant
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.monitoring.drift.counts import is_missing
from ecluse.monitoring.window import Record

SHOWN = 3


@dataclass(frozen=True)
class Example:
    """A prediction in which a feature differs: its request, what was served, what the tables say."""

    request_id: str
    served: Value
    recomputed: Value


@dataclass(frozen=True)
class FeatureSkew:
    """A feature of a view: values ``compared``, how many ``differ``, the first of them."""

    feature: str
    view: str
    compared: int
    differ: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Staleness:
    """Seconds from the moment a view was computed as of to the answer, over the predictions that used it."""

    view: str
    rows: int
    median: float
    longest: float


@dataclass(frozen=True)
class Skew:
    """Of a sample of predictions: ``compared`` with at least one view recomputed, and the others by the reason why not."""

    model: str
    sample: int
    compared: int
    left_out: Mapping[str, int]
    features: tuple[FeatureSkew, ...]
    staleness: tuple[Staleness, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Served:
    """A prediction and, by view, the features recomputed for its entity at that view's moment."""

    record: Record
    recomputed: Mapping[str, Mapping[str, Value]]


def same(a: Value, b: Value) -> bool:
    """Whether two values are one: numbers to the last bit, missing is missing.

    >>> same(2, 2.0), same(None, float("nan")), same(0.1 + 0.2, 0.3), same("1", 1)
    (True, True, False, False)
    """
    if is_missing(a) or is_missing(b):
        return is_missing(a) and is_missing(b)
    return a == b and isinstance(a, str) == isinstance(b, str)


def compare_served(model: str, served: Sequence[Served], left_out: Mapping[str, int]) -> Skew:
    """Hold what was served against what was recomputed. O(predictions × features)."""
    counts: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], list[Example]] = {}
    for each in served:
        inputs = each.record["inputs"]
        for view, values in each.recomputed.items():
            for name in [n for n in values if n in inputs]:
                counts[view, name] = counts.get((view, name), 0) + 1
                if not same(inputs[name], values[name]):
                    example = Example(each.record["request_id"], inputs[name], values[name])
                    found.setdefault((view, name), []).append(example)
    features = tuple(
        FeatureSkew(name, view, rows, len(found.get((view, name), ())), tuple(found.get((view, name), ())[:SHOWN]))
        for (view, name), rows in sorted(counts.items())
    )
    sample = len(served) + sum(left_out.values())
    verdict = Verdict(f"skew of {model}", tuple(_finding(each) for each in features) or (_nothing(sample),))
    return Skew(model, sample, len(served), dict(left_out), features, staleness(served), verdict)


def _finding(of: FeatureSkew) -> Finding:
    if not of.differ:
        why = f"{of.compared:,} served values are what the tables say"
        return Finding("skew", Outcome.PASSED, why, 0.0, 0.0, of.feature)
    first = of.examples[0]
    why = f"{of.differ:,} of {of.compared:,} differ, such as {first.served!r} served, {first.recomputed!r} recomputed"
    why += f" (request {first.request_id})"
    return Finding("skew", Outcome.FAILED, why, of.differ / of.compared, 0.0, of.feature)


def _nothing(sample: int) -> Finding:
    return Finding(
        "skew", Outcome.INCONCLUSIVE, f"of {sample:,} predictions none used a stored feature that can be recomputed"
    )


def staleness(served: Sequence[Served]) -> tuple[Staleness, ...]:
    """How old each view's values were when they were served."""
    ages: dict[str, list[float]] = {}
    for each in served:
        at = parse_instant(each.record["time"])
        for view in each.recomputed:
            moment = parse_instant(each.record["moments"][view])
            ages.setdefault(view, []).append((at - moment).total_seconds())
    return tuple(Staleness(view, len(each), median(each), max(each)) for view, each in sorted(ages.items()))
