"""Watch: a window of predictions against the reference of the version that answered: which inputs moved, and has the model drifted?

Two questions, two verdicts. ``features`` has one finding per input, failed when any of its statistics passes its limit. ``verdict`` is the
monitor's: enough rows, the share of moved inputs, the scores, the segments; it alone says whether there is a breach.

A statistic has moved when its size, without the expected noise, passes its limit *and* it is significant among all that was tested
(Benjamini-Hochberg at ``false_discoveries``): more rows make a verdict surer, not different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ecluse.core.loop_settings import Monitoring
from ecluse.core.verdict import Finding, Outcome, Verdict, at_most
from ecluse.monitoring.drift.column import Measured, measure
from ecluse.monitoring.drift.counts import ColumnCounts
from ecluse.monitoring.sketch import Segments, Sketch, sketch_of
from ecluse.monitoring.window import Window
from ecluse.stats.false_discovery import benjamini_hochberg
from ecluse.stats.reference import FeatureReference, Reference

WORDS = {
    "psi": "PSI",
    "mean_shift": "mean",
    "jensen_shannon": "Jensen-Shannon",
    "ks": "Kolmogorov-Smirnov",
    "wasserstein": "Wasserstein",
    "cramers_v": "Cramér's V",
    "missing": "missing",
    "unseen": "never seen",
}
_FORMATS = {"mean_shift": "{:+.2f} sd", "wasserstein": "{:.2f} sd", "missing": "{:+.1%}", "unseen": "{:.1%}"}


@dataclass(frozen=True)
class FeatureShift:
    """One column's numbers: ``measured`` values as they come, ``effects`` without the expected noise, ``p_values`` of no move, and the
    statistics that ``moved``.
    """

    name: str
    measured: dict[str, float]
    effects: dict[str, float]
    moved: tuple[str, ...]
    p_values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentShift:
    """The rows with one value of a declared column: how many, and what of their inputs moved against the same segment's reference."""

    segment: str
    rows: int
    shifts: tuple[FeatureShift, ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the inputs that moved in it."""
        return tuple(each.name for each in self.shifts if each.moved)


@dataclass(frozen=True)
class Watched:
    """The monitor's ``verdict``, the per-feature one, and the numbers behind both (``scores`` is None when none can be compared)."""

    verdict: Verdict
    features: Verdict
    shifts: tuple[FeatureShift, ...]
    scores: FeatureShift | None
    segments: tuple[SegmentShift, ...] = ()

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the inputs that moved."""
        return tuple(finding.subject for finding in self.features.failed)


def watch(reference: Reference, window: Window, limits: Monitoring) -> Watched:
    """:func:`judge` of a window's rows. O(rows × features)."""
    return judge(reference, sketch_of(window, reference), limits)


def judge(
    reference: Reference,
    sketch: Sketch,
    limits: Monitoring,
    *,
    importance: Mapping[str, float] | None = None,
    segments: Segments | None = None,
) -> Watched:
    """Judge a window's sketch. With fewer than ``min_samples`` rows every finding is INCONCLUSIVE, and a segment with fewer is not judged.

    ``importance`` weighs the inputs where ``weights`` asks for it (equal weights where it knows none of them); ``segments`` are the
    references of the segments counted. O(features × bins).
    """
    inputs = _measured(reference.features, sketch.columns)
    scores = measure(reference.score, sketch.scores) if sketch.scores.rows > sketch.scores.missing else ()
    # what no limit asks about is no test: it would only make the others harder to believe
    asked = {"score": [each for each in scores if each.name == "psi"]} if limits.prediction_psi else {}
    believed = _significant({**inputs, "\0score": asked.get("score", [])}, limits)
    shifts = tuple(_shift(name, each, limits, believed) for name, each in inputs.items())
    enough = sketch.rows >= limits.min_samples
    features = tuple(_feature_finding(each, limits, enough) for each in shifts)
    found = _segments(sketch, segments or {}, limits)
    findings = [_samples(sketch, limits)]
    if enough:
        findings += [
            *_share(features, limits, importance or {}),
            *_scores(scores, sketch.fresh, limits, ("\0score", "chi_square") in believed),
            *(finding for each in found for finding in _segment_finding(each, limits)),
        ]
    name = f"{sketch.model} version {sketch.version}"
    answers = _shift("score", scores, Monitoring(), frozenset()) if scores else None
    questions = Verdict(f"drift of {name}", tuple(findings)), Verdict(f"inputs of {name}", features)
    return Watched(*questions, shifts, answers, found)


def _measured(
    references: Mapping[str, FeatureReference], columns: Mapping[str, ColumnCounts]
) -> dict[str, tuple[Measured, ...]]:
    return {name: measure(known, columns[name]) for name, known in sorted(references.items()) if name in columns}


def _significant(measured: Mapping[str, Sequence[Measured]], limits: Monitoring) -> frozenset[tuple[str, str]]:
    """The (column, test) pairs that are discoveries among all of them; a test that several statistics share is one."""
    tests = {
        (name, each.test): each.p_value
        for name, every in measured.items()
        for each in every
        if name == "\0score" or _limit(each.name, limits) > 0
    }
    found = benjamini_hochberg(list(tests.values()), limits.false_discoveries)
    return frozenset(test for test, discovery in zip(tests, found.tolist(), strict=True) if discovery)


def _shift(
    name: str, measured: Sequence[Measured], limits: Monitoring, believed: frozenset[tuple[str, str]]
) -> FeatureShift:
    moved = [m.name for m in measured if (name, m.test) in believed and 0 < _limit(m.name, limits) < m.effect]
    numbers = {m.name: m.value for m in measured}, {m.name: m.effect for m in measured}
    return FeatureShift(name, *numbers, tuple(moved), {m.name: m.p_value for m in measured})


def _limit(statistic: str, limits: Monitoring) -> float:
    return float(getattr(limits, statistic))


def _samples(sketch: Sketch, limits: Monitoring) -> Finding:
    if sketch.rows >= limits.min_samples:
        return Finding("samples", Outcome.PASSED, f"{sketch.rows:,} predictions", sketch.rows, limits.min_samples)
    why = f"{sketch.rows:,} predictions are too few to judge: at least {limits.min_samples:,}"
    return Finding("samples", Outcome.INCONCLUSIVE, why, sketch.rows, limits.min_samples)


def _feature_finding(shift: FeatureShift, limits: Monitoring, enough: bool) -> Finding:
    outcome = Outcome.INCONCLUSIVE if not enough else Outcome.FAILED if shift.moved else Outcome.PASSED
    order = [*shift.moved, *(name for name in shift.effects if name not in shift.moved)]
    why = "; ".join(_clause(name, shift, limits) for name in order) or "no values to compare"
    headline = order[0] if order else ""
    limit = _limit(headline, limits) if headline else None
    return Finding("drift", outcome, why, shift.measured.get(headline), limit, shift.name)


def _clause(name: str, shift: FeatureShift, limits: Monitoring) -> str:
    verdict = f" passes {_limit(name, limits):g}" if name in shift.moved else ""
    return say(name, shift.measured[name]) + verdict


def say(statistic: str, value: float) -> str:
    """A statistic in words and in its unit.

    >>> say("missing", 0.12), say("psi", 0.3)
    ('missing +12.0%', 'PSI 0.300')
    """
    return f"{WORDS[statistic]} {_FORMATS.get(statistic, '{:.3f}').format(value)}"


def _share(features: Sequence[Finding], limits: Monitoring, importance: Mapping[str, float]) -> list[Finding]:
    if not features or not limits.drift_share:
        return []
    moved = [finding.subject for finding in features if finding.outcome is Outcome.FAILED]
    plain, weighted = len(moved) / len(features), weighted_share(moved, [f.subject for f in features], importance)
    share = weighted if limits.weights == "importance" and weighted is not None else plain
    names = ", ".join(moved[:6]) + (", …" if len(moved) > 6 else "")
    why = f"{len(moved)} of {len(features)} inputs moved" + (f": {names}" if moved else "")
    if moved and weighted is not None:
        why += f" ({weighted:.0%} of the importance)"
    # "when drift_share of the features have": a share equal to the limit is a breach.
    outcome = Outcome.FAILED if share >= limits.drift_share else Outcome.PASSED
    return [Finding("drift_share", outcome, why, share, limits.drift_share)]


def weighted_share(moved: Sequence[str], names: Sequence[str], importance: Mapping[str, float]) -> float | None:
    """The moved inputs' share of the importance; losses below 0 weigh nothing. None when no input has any.

    >>> weighted_share(["age"], ["age", "plan"], {"age": 0.03, "plan": 0.01}), weighted_share(["age"], ["age"], {})
    (0.75, None)
    """
    weights = {name: max(importance.get(name, 0.0), 0.0) for name in names}
    total = sum(weights.values())
    return sum(weights[name] for name in moved) / total if total else None


def _scores(scores: Sequence[Measured], fresh: int, limits: Monitoring, believed: bool) -> list[Finding]:
    limit = limits.prediction_psi
    if not limit:
        return []
    if fresh < limits.min_samples:
        why = f"{fresh:,} predictions are of rows not trained on: too few, at least {limits.min_samples:,}"
        return [Finding("prediction_psi", Outcome.INCONCLUSIVE, why, None, limit, "score")]
    effect = next((each.effect for each in scores if each.name == "psi"), None)
    if effect is None:
        return []
    finding = at_most("prediction_psi", effect, limit, subject="score")
    if finding.outcome is Outcome.FAILED and not believed:
        finding = replace(finding, outcome=Outcome.PASSED, why=f"{finding.why}, which chance does as well")
    return [finding]


def _segments(sketch: Sketch, references: Segments, limits: Monitoring) -> tuple[SegmentShift, ...]:
    """Every segment with enough rows; all of them are one family of tests."""
    measured = {
        f"{column}={value}": _measured(references[column][value], columns)
        for column, values in sketch.segments.items()
        for value, columns in values.items()
        if value in references.get(column, {})
    }
    rows = {segment: max((c.rows for c in cols.values()), default=0) for segment, cols in _named(sketch).items()}
    enough = {segment: each for segment, each in measured.items() if rows[segment] >= limits.min_samples}
    family = {f"{segment}\0{name}": m for segment, each in enough.items() for name, m in each.items()}
    believed = _significant(family, limits)
    found = []
    for segment, each in enough.items():
        own = frozenset((name.split("\0")[1], test) for name, test in believed if name.split("\0")[0] == segment)
        found.append(
            SegmentShift(segment, rows[segment], tuple(_shift(name, m, limits, own) for name, m in each.items()))
        )
    return tuple(found)


def _named(sketch: Sketch) -> dict[str, Mapping[str, ColumnCounts]]:
    return {f"{column}={value}": each for column, values in sketch.segments.items() for value, each in values.items()}


def _segment_finding(segment: SegmentShift, limits: Monitoring) -> list[Finding]:
    if not limits.segment_share or not segment.shifts:
        return []
    share, names = len(segment.drifted) / len(segment.shifts), ", ".join(segment.drifted[:4])
    why = f"{len(segment.drifted)} of {len(segment.shifts)} inputs moved in {segment.rows:,} rows"
    outcome = Outcome.FAILED if share >= limits.segment_share else Outcome.PASSED
    why += f": {names}" if names else ""
    return [Finding("segment_drift", outcome, why, share, limits.segment_share, segment.segment)]
