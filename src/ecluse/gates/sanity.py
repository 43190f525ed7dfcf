"""Sanity of the answers: finite, not constant, a believable rate of positives, and a distribution like the champion's (PSI)."""

from __future__ import annotations

import numpy as np

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome, at_least, at_most
from ecluse.gates.evidence import Array, Evidence
from ecluse.gates.measured import HALF
from ecluse.stats.histogram import count, reference_edges
from ecluse.stats.psi import psi

CHECK = "sanity"
BINS = 10


def check_sanity(evidence: Evidence, gates: Gates) -> list[Finding]:
    """Findings ``finite``, ``distinct answers``, ``positive rate`` (or the rarest possible answer), ``psi``."""
    answers = evidence.answers
    bad = int((~np.isfinite(answers.reshape(evidence.rows, -1))).any(axis=1).sum())
    if bad:
        why = f"{bad} of {evidence.rows} answers are NaN or infinite"
        return [Finding(CHECK, Outcome.FAILED, why, bad, 0, "finite")]
    return [
        Finding(CHECK, Outcome.PASSED, f"all {evidence.rows} answers are finite", 0, 0, "finite"),
        at_least(CHECK, len(np.unique(answers, axis=0)), gates.sanity.min_distinct, subject="distinct answers"),
        *_rate(evidence, gates),
        *_distribution(evidence, gates),
    ]


def _rate(evidence: Evidence, gates: Gates) -> list[Finding]:
    """The share of positives; for multi-class the share of the commonest answer, which may not be nearly everybody's."""
    low, high = gates.sanity.positive_rate
    if evidence.task == "regression":
        return []
    if evidence.task == "multiclass":
        share = np.bincount(evidence.answers.argmax(axis=1)).max() / evidence.rows
        return [at_most(CHECK, float(share), high, subject="share of the commonest answer")]
    threshold = HALF if evidence.threshold is None else evidence.threshold
    rate = float((evidence.answers >= threshold).mean())
    ok = low <= rate <= high
    why = f"{rate:.4g} of the rows are decided positive at {threshold:g}, {'within' if ok else 'outside'} {low:g} to {high:g}"
    return [
        Finding(CHECK, Outcome.PASSED if ok else Outcome.FAILED, why, rate, f"{low:g} to {high:g}", "positive rate")
    ]


def _distribution(evidence: Evidence, gates: Gates) -> list[Finding]:
    champion, limit = evidence.champion, gates.sanity.max_psi
    if champion is None:
        return [Finding(CHECK, Outcome.PASSED, "no champion to compare answers with", None, limit, "psi")]
    if champion.answers is None or champion.clean is None or not np.isfinite(champion.answers[champion.clean]).all():
        why = f"version {champion.number} gave no answers to compare with"
        return [Finding(CHECK, Outcome.INCONCLUSIVE, why, None, limit, "psi")]
    moved = distance(champion.answers[champion.clean], evidence.answers[champion.clean])
    return [at_most(CHECK, moved, limit, subject="psi")]


def distance(old: Array, new: Array) -> float:
    """PSI of answers against older ones on the same rows, over ten bins of the older; of the answered class for (n, K). NaN without rows."""
    if old.ndim == 2:
        classes = old.shape[1]
        return (
            psi(*(np.bincount(each.argmax(axis=1), minlength=classes) for each in (old, new)))
            if len(old)
            else float("nan")
        )
    edges = reference_edges(old, BINS)
    return psi(count(old, edges).counts, count(new, edges).counts)
