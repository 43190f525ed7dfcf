"""Performance: what was predicted against what turned out true, and whether that is still good enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from ecluse.core.expression import Value
from ecluse.core.instants import parse_instant, to_micros
from ecluse.core.loop_settings import Monitoring
from ecluse.core.recipe import Split
from ecluse.core.settings import Costs
from ecluse.core.verdict import Finding, Outcome, at_least, at_most
from ecluse.monitoring.drift.column import share_change
from ecluse.monitoring.drift.counts import is_missing
from ecluse.monitoring.window import Record, is_trained_on
from ecluse.stats.bootstrap import bootstrap
from ecluse.stats.catalog import measure, metric_of
from ecluse.stats.mean_shift import mean_shift, mean_shift_noise
from ecluse.stats.reference import CategoryReference, FeatureReference

_ROUNDS = 200
_CONFIDENCE = (
    0.9  # of an interval: a limit is missed on one side, with a chance of one in twenty where it is just reached
)
_SIGMAS = 3.29  # a move of the target that unmoved data show once in a thousand windows is not believed


@dataclass(frozen=True)
class Truths:
    """What turned out true: by request id, and by (entity key, label moment in UTC microseconds)."""

    by_request: Mapping[str, Value] = field(default_factory=dict)
    by_entity: Mapping[tuple[str, int], Value] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_request or self.by_entity)

    def of(self, record: Record) -> Value:
        """The truth of a prediction, None while it has not arrived: what was said about its request, else about its entity and moment."""
        found = self.by_request.get(record["request_id"])
        if found is None and record["entity"] is not None and record["as_of"] is not None:
            found = self.by_entity.get(question(record))
        return found


@dataclass(frozen=True)
class Joined:
    """Predictions with their truths, (n,) each, one per question asked; ``waiting`` counts those whose truth has not arrived (``open``)."""

    records: Sequence[Record]
    truths: Sequence[Value]
    waiting: int
    open: Sequence[Record] = ()


@dataclass(frozen=True)
class Realised:
    """Of one version: predictions ``joined`` with a truth, those ``waiting`` for one, metrics over the joined (undefined ones left out), and
    for those asked for the ends of their 90 % interval: beyond either end is one chance in twenty.
    """

    joined: int
    waiting: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def question(record: Record) -> tuple[str, int]:
    """What a prediction was about: entity key and as-of moment in UTC microseconds."""
    return record["entity"], micros_of(record["as_of"])


@lru_cache(maxsize=65_536)
def micros_of(text: str) -> int:
    """A record's time in UTC microseconds. Few moments are asked about by many."""
    return to_micros(parse_instant(text))


def join(records: Iterable[Record], truths: Truths) -> Joined:
    """Join predictions of one version with truths. The newest answer counts where an entity was asked about more than once at a moment,
    so that callers who repeat themselves do not weigh more. O(n).
    """
    asked: dict[object, Record] = {}
    for record in records:
        about = record["entity"] is not None and record["as_of"] is not None
        asked[question(record) if about else record["id"]] = record
    found = [(record, truths.of(record)) for record in asked.values()]
    known = [(record, truth) for record, truth in found if not is_missing(truth)]
    still = [record for record, truth in found if is_missing(truth)]
    return Joined([record for record, _ in known], [truth for _, truth in known], len(still), still)


def unlearnt(joined: Joined, split: Split | None) -> Joined:
    """Without the predictions whose very truth the version was trained on (by its ``split``): to know them by heart proves nothing.

    An entity trained on counts again from the first label moment after the training's last.
    """
    last = None if split is None else split.last_moment
    if last is None:
        return joined

    def is_learnt(record: Record) -> bool:
        return is_trained_on(split, record) and question(record)[1] <= to_micros(last)

    pairs = zip(joined.records, joined.truths, strict=True)
    kept = [(record, truth) for record, truth in pairs if not is_learnt(record)]
    still = [record for record in joined.open if not is_learnt(record)]
    return Joined([record for record, _ in kept], [truth for _, truth in kept], joined.waiting, still)


def realised(
    task: str, classes: Sequence[str], joined: Joined, costs: Costs | None = None, intervals: Iterable[str] = ()
) -> Realised:
    """The task's metrics over the joined predictions, binary ones at the threshold in force last. ``classes`` in the scorer's order.

    ``intervals`` names metrics to give an interval: by bootstrap, whole entities drawn, where the metric is defined.
    """
    if not joined.records:
        return Realised(0, joined.waiting, {})
    y, scores = arrays_of(task, classes, joined)
    threshold, money = threshold_of(joined.records), _money(costs) if task == "binary" else None
    found = measure(task, y, scores, threshold=threshold, costs=money)
    metrics = {name: value for name, value in found.items() if np.isfinite(value)}
    groups = [record["entity"] or record["id"] for record in _answerable(task, classes, joined)]
    ends = {}
    for name in sorted(set(intervals) & set(metrics)):
        function = metric_of(task, name).closed(threshold=threshold, costs=money)
        interval = bootstrap(function, y, scores, rounds=_ROUNDS, confidence=_CONFIDENCE, groups=np.array(groups))
        if np.isfinite(interval.low):
            ends[name] = (interval.low, interval.high)
    return Realised(len(joined.records), joined.waiting, metrics, ends)


def parts(
    joined: Joined, segments: Sequence[str], least: int
) -> Iterator[tuple[Literal["arm", "segment"], str, Joined]]:
    """The joined predictions of each arm, and of each value of each ``segments`` input (``"plan=Basic"``) with at least ``least`` truths.

    A part waits for nothing: whose truth will come is not known of those that wait. Sorted. O(n (1 + segments)).
    """
    arms: dict[str, list[int]] = {}
    values: dict[str, dict[str, list[int]]] = {column: {} for column in segments}
    for i, record in enumerate(joined.records):
        arms.setdefault(record["arm"], []).append(i)
        for column in segments:
            if column in record["inputs"]:
                values[column].setdefault(_segment_value(record["inputs"][column]), []).append(i)
    for arm in sorted(arms):
        yield "arm", arm, _some(joined, arms[arm])
    for column in segments:
        for value, places in sorted(values[column].items()):
            if len(places) >= least:
                yield "segment", f"{column}={value}", _some(joined, places)


def _some(joined: Joined, places: Sequence[int]) -> Joined:
    return Joined([joined.records[i] for i in places], [joined.truths[i] for i in places], 0)


def _segment_value(value: Value) -> str:
    """As segments are named where gates judge them: ``true``, whole numbers without a fraction, ``missing``."""
    if is_missing(value):
        return "missing"
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def threshold_of(records: Sequence[Record]) -> float:
    """The decision threshold in force last, 0.5 where there was none."""
    threshold = records[-1]["threshold"] if records else None
    return 0.5 if threshold is None else float(threshold)


def _money(costs: Costs | None) -> dict[str, float] | None:
    if costs is None or not costs.declared:
        return None
    return {
        "false_positive": costs.false_positive,
        "false_negative": costs.false_negative,
        "action_value": costs.action_value,
    }


def arrays_of(task: str, classes: Sequence[str], joined: Joined) -> tuple[np.ndarray, np.ndarray]:
    """Truths (n,) as numbers or class codes and scores (n,) or (n, k). A class that is new since cannot be predicted: its rows are left out."""
    known = _answerable(task, classes, joined)
    if task != "multiclass":
        return np.array([float(truth or 0) for truth in joined.truths]), scores_of(task, classes, known)
    codes = {name: code for code, name in enumerate(classes)}
    y = [float(codes[str(truth)]) for truth in joined.truths if str(truth) in codes]
    return np.array(y), scores_of(task, classes, known)


def scores_of(task: str, classes: Sequence[str], records: Sequence[Record]) -> np.ndarray:
    """Scores (n,), of a multi-class version (n, k) in the order of ``classes``."""
    if task != "multiclass":
        return np.array([float(record["score"]) for record in records])
    shares = [[(record["scores"] or {}).get(name, 0.0) for name in classes] for record in records]
    return np.array(shares, dtype=np.float64).reshape(len(records), len(classes))


def _answerable(task: str, classes: Sequence[str], joined: Joined) -> list[Record]:
    pairs = zip(joined.records, joined.truths, strict=True)
    return [record for record, truth in pairs if task != "multiclass" or str(truth) in classes]


def judge_performance(task: str, version: int, of: Realised, limits: Monitoring) -> list[Finding]:
    """A finding per declared limit: a floor, or a ceiling for metrics where less is better. INCONCLUSIVE below ``min_outcomes`` truths.

    A limit is missed when the whole interval lies beyond it, so that few truths do not miss what many reach; where only the estimate does, it is
    INCONCLUSIVE. A metric without an interval goes by its estimate, and its finding says so.
    """
    findings = []
    for name, limit in limits.performance.items():
        if of.joined < limits.min_outcomes:
            why = f"{of.joined:,} truths have arrived for version {version}: too few, at least {limits.min_outcomes:,}"
            findings.append(Finding("performance", Outcome.INCONCLUSIVE, why, None, limit, name))
            continue
        found = _by_estimate(task, name, of, limit)
        findings.append(found if found.outcome is not Outcome.FAILED else _believed(found, name, of, limit))
    return findings


def missed_by_estimate(task: str, of: Realised, limits: Monitoring) -> tuple[str, ...]:
    """The metrics whose estimate lies beyond its limit: those for which only an interval can say whether that is luck."""
    if of.joined < limits.min_outcomes:
        return ()
    found = {name: _by_estimate(task, name, of, limit) for name, limit in limits.performance.items()}
    return tuple(name for name, each in found.items() if each.outcome is Outcome.FAILED)


def _by_estimate(task: str, name: str, of: Realised, limit: float) -> Finding:
    compare = at_least if metric_of(task, name).greater_is_better else at_most
    return compare("performance", of.metrics.get(name, float("nan")), limit, subject=name)


def _believed(found: Finding, name: str, of: Realised, limit: float) -> Finding:
    """A limit missed by the estimate, as far as the interval bears it out."""
    if name not in of.intervals:
        return replace(found, why=f"{found.why} (by the estimate alone: it has no interval)")
    low, high = of.intervals[name]
    why = f"{found.why} (90 % interval {low:.4g} to {high:.4g})"
    if max(of.metrics[name], high) < limit or min(of.metrics[name], low) > limit:
        return replace(found, why=why)
    return replace(found, outcome=Outcome.INCONCLUSIVE, why=f"{why}, which may be luck")


def target_shift(reference: FeatureReference, truths: Sequence[Value], limits: Monitoring) -> list[Finding]:
    """How far the truths moved from the training target: the rate of positives, the largest class share, the mean in deviations.

    Nothing when the limit is 0 or no truth has arrived; INCONCLUSIVE below ``min_outcomes``; a move within the noise passes.
    """
    if not limits.target_shift or not truths or not reference.rows - reference.missing:
        return []
    if len(truths) < limits.min_outcomes:
        why = f"{len(truths):,} truths have arrived: too few, at least {limits.min_outcomes:,}"
        return [Finding("target_shift", Outcome.INCONCLUSIVE, why, None, limits.target_shift)]
    change, noise, what = _target_change(reference, truths)
    failed = abs(change) > limits.target_shift and abs(change) > _SIGMAS * noise
    why = f"{what} moved by {change:+.4g}, " + ("passing" if failed else "within") + f" {limits.target_shift:g}"
    return [
        Finding("target_shift", Outcome.FAILED if failed else Outcome.PASSED, why, abs(change), limits.target_shift)
    ]


def _target_change(reference: FeatureReference, truths: Sequence[Value]) -> tuple[float, float, str]:
    m = len(truths)
    if isinstance(reference, CategoryReference):
        n = sum(reference.counts.values())
        now = [("true" if truth else "false") if isinstance(truth, bool) else str(truth) for truth in truths]
        names = sorted({*reference.counts, *now})
        names = ["true"] if set(names) <= {"true", "false"} else names
        moves = [(name, *share_change(reference.counts.get(name, 0), n, now.count(name), m)) for name in names]
        name, change, noise = max(moves, key=lambda move: abs(move[1]))
        return change, noise, "the share of positives" if name == "true" else f"the share of {name}"
    values = [float(truth or 0) for truth in truths]
    n = sum(reference.counts)
    if not reference.sd or reference.mean is None:
        return 0.0, 0.0, "the mean"
    return mean_shift(reference.mean, reference.sd, values), mean_shift_noise(n, m), "the mean (in deviations)"
