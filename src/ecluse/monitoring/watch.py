"""Watch: a window of predictions against the reference of the version that answered: which inputs moved, and has the model drifted?

Two questions, two verdicts. ``features`` has one finding per input, failed when any of its statistics passes its limit. ``verdict`` is the
monitor's: enough rows, the share of moved inputs, the scores; it alone says whether there is a breach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecluse.core.loop_settings import Monitoring
from ecluse.core.verdict import Finding, Outcome, Verdict, at_most
from ecluse.monitoring.drift.column import Measured, compare
from ecluse.monitoring.window import Window
from ecluse.stats.reference import CategoryReference, FeatureReference, Reference

WORDS = {
    "psi": "PSI",
    "mean_shift": "mean",
    "jensen_shannon": "Jensen-Shannon",
    "missing": "missing",
    "unseen": "never seen",
}


@dataclass(frozen=True)
class FeatureShift:
    """One column's numbers: ``measured`` values as they come, ``effects`` without the expected noise, the statistics that ``moved``."""

    name: str
    measured: dict[str, float]
    effects: dict[str, float]
    moved: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """The monitor's ``verdict``, the per-feature one, and the numbers behind both (``scores`` is None when none can be compared)."""

    verdict: Verdict
    features: Verdict
    shifts: tuple[FeatureShift, ...]
    scores: FeatureShift | None

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the inputs that moved."""
        return tuple(finding.subject for finding in self.features.failed)


def watch(reference: Reference, window: Window, limits: Monitoring) -> Watched:
    """Judge a window. With fewer than ``min_samples`` rows every finding is INCONCLUSIVE. O(rows × features)."""
    shifts = tuple(
        shift(name, known, window.inputs[name], limits)
        for name, known in sorted(reference.features.items())
        if name in window.inputs
    )
    scores = score_shift(reference, window)
    enough = window.rows >= limits.min_samples
    features = tuple(_feature_finding(each, limits, enough) for each in shifts)
    name = f"{window.model} version {window.version}"
    findings = [_samples(window, limits)]
    if enough:
        findings += [*_share(features, limits), *_scores(scores, sum(window.fresh), limits)]
    return Watched(Verdict(f"drift of {name}", tuple(findings)), Verdict(f"inputs of {name}", features), shifts, scores)


def shift(name: str, reference: FeatureReference, values: Sequence[object], limits: Monitoring) -> FeatureShift:
    """A column's statistics, and which of them pass their limit (0: never)."""
    measured = compare(reference, values)  # type: ignore[arg-type]
    return _shift(name, measured, {each.name: _limit(each.name, limits) for each in measured})


def score_shift(reference: Reference, window: Window) -> FeatureShift | None:
    """The scores' statistics (a multi-class model's answered classes) over the fresh rows, or None when there is nothing to compare.

    The reference holds validation scores; those of rows trained on would differ from them without any drift.
    """
    answers = isinstance(reference.score, CategoryReference)
    every: Sequence[str | float | None] = window.answers if answers else window.scores
    values = [value for value, fresh in zip(every, window.fresh, strict=True) if fresh and value is not None]
    return _shift("score", compare(reference.score, values), {}) if values else None


def _shift(name: str, measured: Sequence[Measured], limits: dict[str, float]) -> FeatureShift:
    moved = tuple(m.name for m in measured if m.clear and 0 < limits.get(m.name, 0.0) < m.effect)
    return FeatureShift(name, {m.name: m.value for m in measured}, {m.name: m.effect for m in measured}, moved)


def _limit(statistic: str, limits: Monitoring) -> float:
    return float(getattr(limits, statistic))


def _samples(window: Window, limits: Monitoring) -> Finding:
    if window.rows >= limits.min_samples:
        return Finding("samples", Outcome.PASSED, f"{window.rows:,} predictions", window.rows, limits.min_samples)
    why = f"{window.rows:,} predictions are too few to judge: at least {limits.min_samples:,}"
    return Finding("samples", Outcome.INCONCLUSIVE, why, window.rows, limits.min_samples)


def _feature_finding(shift: FeatureShift, limits: Monitoring, enough: bool) -> Finding:
    outcome = Outcome.INCONCLUSIVE if not enough else Outcome.FAILED if shift.moved else Outcome.PASSED
    order = [*shift.moved, *(name for name in shift.effects if name not in shift.moved)]
    why = "; ".join(_clause(name, shift, limits) for name in order) or "no values to compare"
    headline = order[0] if order else ""
    limit = _limit(headline, limits) if headline else None
    return Finding("drift", outcome, why, shift.measured.get(headline), limit, shift.name)


def _clause(name: str, shift: FeatureShift, limits: Monitoring) -> str:
    value = shift.measured[name]
    text = {"mean_shift": f"{value:+.2f} sd", "missing": f"{value:+.1%}", "unseen": f"{value:.1%}"}.get(
        name, f"{value:.3f}"
    )
    verdict = f" passes {_limit(name, limits):g}" if name in shift.moved else ""
    return f"{WORDS[name]} {text}{verdict}"


def _share(features: Sequence[Finding], limits: Monitoring) -> list[Finding]:
    if not features or not limits.drift_share:
        return []
    moved = [finding for finding in features if finding.outcome is Outcome.FAILED]
    share, limit = len(moved) / len(features), limits.drift_share
    names = ", ".join(finding.subject for finding in moved[:6]) + (", …" if len(moved) > 6 else "")
    why = f"{len(moved)} of {len(features)} inputs moved" + (f": {names}" if moved else "")
    # "when drift_share of the features have": a share equal to the limit is a breach.
    outcome = Outcome.FAILED if share >= limit else Outcome.PASSED
    return [Finding("drift_share", outcome, why, share, limit)]


def _scores(scores: FeatureShift | None, fresh: int, limits: Monitoring) -> list[Finding]:
    if not limits.prediction_psi:
        return []
    if fresh < limits.min_samples:
        why = f"{fresh:,} predictions are of rows not trained on: too few, at least {limits.min_samples:,}"
        return [Finding("prediction_psi", Outcome.INCONCLUSIVE, why, None, limits.prediction_psi, "score")]
    if scores is None or "psi" not in scores.effects:
        return []
    return [at_most("prediction_psi", scores.effects["psi"], limits.prediction_psi, subject="score")]
