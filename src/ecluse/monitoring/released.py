"""Released: what a version showed since it became champion, held against what a release must keep. Pure: observations in, Verdict out.

It is looked at every second for hours, so a finding asks for proof: the share seen must be beyond its limit with a risk of one in a million
(Clopper & Pearson). A version that is as good as the one before is then not taken back for bad luck, and a bad one within some dozens of answers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ecluse.core.expression import Value
from ecluse.core.loop_settings import Rollback, Slo
from ecluse.core.verdict import Finding, Outcome, Verdict, judge
from ecluse.monitoring.drift.column import compare
from ecluse.monitoring.exposition import Answers
from ecluse.monitoring.slo import BURNS
from ecluse.stats.proportion import lower_bound
from ecluse.stats.reference import FeatureReference

RISK = 1e-6
FAST_BURN = BURNS[0].factor
"""That of the first alert: an error budget of 30 days is gone in two."""
NOTICED = 0.05
"""The share of the latency objective below which nobody notices."""
EXCUSED = frozenset(
    {"overloaded", "feature_store_unavailable", "log_unavailable", "wish_unavailable", "draining", "starting"}
)
"""Failures that another version would have had as well."""


@dataclass(frozen=True)
class Observed:
    """``answers`` counted since the release, and ``recent`` ones; ``latencies`` of those journaled, ``before`` of the version it replaced
    (microseconds); ``outputs``: scores (answered classes) of rows it was not trained on, ``reference`` theirs at training. ``told``: what
    the ledger says against it, by check.
    """

    version: int
    answers: Answers = field(default_factory=Answers)
    recent: Answers = field(default_factory=Answers)
    latencies: Sequence[int] = ()
    before: Sequence[int] = ()
    outputs: Sequence[Value] = ()
    reference: FeatureReference | None = None
    told: Mapping[str, Finding] = field(default_factory=dict)


def judge_release(seen: Observed, limits: Rollback, slo: Slo) -> Verdict:
    """A finding per check that is on; inconclusive where too little was seen. O(answers).

    >>> bad = Observed(2, Answers(200, {"not_finite": 40}))
    >>> judge_release(bad, Rollback(on=("errors",)), Slo()).findings[0].why
    '40 of 200 answers failed (not_finite), more than 2%'
    """
    found = [CHECKS[name](seen, limits, slo) for name in limits.on if name in CHECKS]
    found += [seen.told[name] for name in limits.on if name in seen.told]
    return judge(f"may version {seen.version} stay", found)


def _errors(seen: Observed, limits: Rollback, slo: Slo) -> Finding:
    total, failures, codes, proven = _worst(seen)
    if total < limits.samples:
        return _few("errors", total, limits.samples, "answers", limits.errors)
    bad = proven > limits.errors
    said = f"{failures} of {total} answers failed" + (f" ({codes})" if codes else "")
    why = f"{said}, {'more' if bad else 'not surely more'} than {100 * limits.errors:.3g}%"
    return Finding("errors", Outcome.FAILED if bad else Outcome.PASSED, why, failures / total, limits.errors)


def _worst(seen: Observed) -> tuple[int, int, str, float]:
    """Answers, failures, their codes and the share they prove: since the release, or lately."""
    spans = [
        (lower_bound(each.failures, each.total, RISK), each.total, each.failures, ", ".join(sorted(each.failed or {})))
        for each in (seen.answers, seen.recent)
    ]
    proven, total, failures, codes = max(spans)
    return total, failures, codes, proven


def _latency(seen: Observed, limits: Rollback, slo: Slo) -> Finding:
    """The median of the version before is passed by so much in more than half of the answers: its own median has grown by as much.

    And by something the objective would notice: a neighbour on the machine makes three tenths of a millisecond of two.
    """
    least = min(len(seen.latencies), len(seen.before))
    if least < limits.samples:
        return _few("latency", least, limits.samples, "journaled answers of both versions", limits.latency)
    usual = statistics.median(seen.before)
    noticed = max(limits.latency * usual, usual + NOTICED * slo.latency_ms * 1_000)
    slower = sum(each > noticed for each in seen.latencies)
    ratio = statistics.median(seen.latencies) / max(usual, 1)
    proven = lower_bound(slower, len(seen.latencies), RISK) > 0.5
    why = f"an answer takes {ratio:.2f} times what it took before ({usual / 1_000:.2f} ms), over {len(seen.latencies)} answers"
    return Finding("latency", Outcome.FAILED if proven else Outcome.PASSED, why, ratio, limits.latency)


def _output(seen: Observed, limits: Rollback, slo: Slo) -> Finding:
    if seen.reference is None or len(seen.outputs) < limits.samples:
        return _few("output", len(seen.outputs), limits.samples, "answers of rows not trained on", limits.output_psi)
    psi = next(each for each in compare(seen.reference, seen.outputs) if each.name == "psi")
    moved = psi.effect > limits.output_psi and psi.p_value < RISK
    why = f"PSI {psi.effect:.2f} of {len(seen.outputs)} outputs against those at training"
    return Finding("output", Outcome.FAILED if moved else Outcome.PASSED, why, psi.effect, limits.output_psi)


def _slo(seen: Observed, limits: Rollback, slo: Slo) -> Finding:
    """The faster of two budgets: failed answers, and slow ones."""
    total, failures, _, _ = _worst(seen)
    failed = failures, total, 1 - slo.availability
    slow = sum(each > slo.latency_ms * 1_000 for each in seen.latencies), len(seen.latencies), 1 - slo.latency_share
    worst, (hits, cases, budget) = max(
        (lower_bound(hits, cases, RISK) / budget if cases else 0.0, (hits, cases, budget))
        for hits, cases, budget in (failed, slow)
    )
    if max(failed[1], slow[1]) < limits.samples:
        return _few("slo", max(failed[1], slow[1]), limits.samples, "answers", FAST_BURN)
    burn = hits / max(cases, 1) / budget
    why = f"the error budget burns {burn:.1f} times too fast: {hits} of {cases} answers outside the objective"
    return Finding("slo", Outcome.FAILED if worst > FAST_BURN else Outcome.PASSED, why, burn, FAST_BURN)


def _few(check: str, seen: int, least: int, what: str, limit: float) -> Finding:
    return Finding(check, Outcome.INCONCLUSIVE, f"{seen} {what} are too few to judge: at least {least}", None, limit)


CHECKS: Mapping[str, Callable[[Observed, Rollback, Slo], Finding]] = {
    "errors": _errors,
    "latency": _latency,
    "output": _output,
    "slo": _slo,
}
"""What is seen in answers; the other checks are told by the ledger."""
