"""Finding and Verdict: the one answer type of contracts, gates and monitors. A "no" is a Verdict, never an exception."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a check says. INCONCLUSIVE is for too little evidence: it neither passes nor breaches."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One check: what was measured, against which limit, what it means.

    ``measured`` and ``limit`` are numbers or short text (``None`` where there is none); ``why`` is one sentence for people;
    ``subject`` names what was looked at (a column, a feature, a segment), empty for the whole.
    """

    check: str
    outcome: Outcome
    why: str
    measured: float | str | None = None
    limit: float | str | None = None
    subject: str = ""

    @property
    def passed(self) -> bool:
        """True only for PASSED."""
        return self.outcome is Outcome.PASSED


@dataclass(frozen=True)
class Verdict:
    """The findings of one question ("may rows come in?", "may version 7 be promoted?", "has the window drifted?").

    >>> no = Finding("floor", Outcome.FAILED, "roc_auc 0.61 is below 0.70", 0.61, 0.70)
    >>> Verdict("gate", (no,)).passed, Verdict("gate", ()).passed
    (False, False)
    """

    question: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """True when something was looked at and nothing failed or stayed inconclusive."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.outcome is Outcome.FAILED)

    @property
    def breached(self) -> bool:
        """True when at least one finding failed (for monitors: inconclusive is not a breach)."""
        return bool(self.failed)


def judge(question: str, findings: Iterable[Finding]) -> Verdict:
    """A Verdict over findings in order."""
    return Verdict(question, tuple(findings))


def at_least(check: str, measured: float, limit: float, *, subject: str = "", unit: str = "") -> Finding:
    """PASSED when ``measured >= limit``; NaN is inconclusive.

    >>> at_least("floor", 0.8, 0.7, subject="roc_auc").why
    'roc_auc 0.8 reaches 0.7'
    """
    return _compare(check, measured, limit, measured >= limit, ("reaches", "is below"), subject, unit)


def at_most(check: str, measured: float, limit: float, *, subject: str = "", unit: str = "") -> Finding:
    """PASSED when ``measured <= limit``; NaN is inconclusive."""
    return _compare(check, measured, limit, measured <= limit, ("stays within", "is above"), subject, unit)


def _compare(
    check: str, measured: float, limit: float, ok: bool, words: tuple[str, str], subject: str, unit: str
) -> Finding:
    name = subject or check
    if measured != measured:  # NaN: nothing could be measured
        return Finding(check, Outcome.INCONCLUSIVE, f"{name} could not be measured", None, limit, subject)
    why = f"{name} {measured:.4g}{unit} {words[0] if ok else words[1]} {limit:.4g}{unit}"
    return Finding(check, Outcome.PASSED if ok else Outcome.FAILED, why, measured, limit, subject)
