"""Tuning: a search for better hyperparameters, its trials, and the store they are remembered in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from ecluse.core.model import Choice, Parameter, Range, Scalar

TrialState = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One choice of parameters and what it scored, fold by fold. ``pruned``: given up after these folds; ``failed``: ``why`` says how."""

    number: int
    parameters: Mapping[str, Scalar | None]
    scores: tuple[float, ...] = ()
    state: TrialState = "complete"
    why: str = ""

    @property
    def score(self) -> float | None:
        """The mean over all folds; None unless the trial was complete.

        >>> Trial(0, {}, (0.5, 0.7)).score, Trial(1, {}, (0.5,), "pruned").score
        (0.6, None)
        """
        return sum(self.scores) / len(self.scores) if self.state == "complete" and self.scores else None


@dataclass(frozen=True)
class Question:
    """What a search is about; scores of two searches compare only where all of this is the same.

    ``start`` are the parameters in force, tried first; ``greater`` whether more of ``metric`` is better; ``code`` the digest of the project's
    sources, ``dataset`` of the rows; ``fixed`` digests the settings a score depends on.
    """

    model: str
    metric: str
    greater: bool
    dataset: str
    code: str
    fixed: str
    folds: int
    seed: int
    space: Mapping[str, Parameter]
    start: Mapping[str, Scalar | None]

    @property
    def searched(self) -> dict[str, Range | Choice]:
        """The parameters with a range or a choice, by name."""
        return {name: each for name, each in sorted(self.space.items()) if isinstance(each, Range | Choice)}


@dataclass(frozen=True)
class Tuning:
    """A search as it stands: kept in the ledger, shown in the mirror. ``study`` names it, ``best`` is the number of the best trial."""

    study: str
    question: Question
    trials: tuple[Trial, ...]
    best: int | None
    ended: datetime

    def trial(self, number: int) -> Trial:
        """One of the trials."""
        return next(trial for trial in self.trials if trial.number == number)


class Study(Protocol):
    """Where the trials of one search are remembered, and who says what to try next. Used by one thread at a time.

    Raises Unavailable when it cannot be read or written.
    """

    @property
    def name(self) -> str:
        """Unique within the profile."""
        ...

    def ask(self) -> Trial:
        """The next trial, without scores."""
        ...

    def report(self, number: int, scores: Sequence[float]) -> bool:
        """The scores of a trial so far; whether it is hopeless and should be given up."""
        ...

    def tell(self, trial: Trial) -> None:
        """How a trial ended."""
        ...

    def drop(self, number: int) -> None:
        """A trial was interrupted: it counts as never begun."""
        ...

    def trials(self) -> tuple[Trial, ...]:
        """Those that ended, in the order they began."""
        ...

    def close(self) -> None:
        """Let others search."""
        ...


class TuningTracker(Protocol):
    """What a tracking mirror shows of searches."""

    def mirror_tuning(self, tuning: Tuning) -> None:
        """A run with one nested run for each trial. Idempotent."""
        ...


class OpenStudy(Protocol):
    """Begin a search, or with ``resume`` go on with the newest of the model.

    Raises NotFound when there is none to go on with, Conflict when it asked another question or another process searches now, Unavailable.
    """

    def __call__(self, question: Question, resume: bool) -> Study:
        """The study."""
        ...


def best_of(trials: Sequence[Trial], greater: bool) -> Trial | None:
    """The complete trial with the best score, the first of several equally good ones; None when none is complete.

    >>> best_of([Trial(0, {}, (0.5,)), Trial(1, {}, (0.7,)), Trial(2, {}, (0.9,), "pruned")], True).number
    1
    """
    scored = [(trial.score, trial) for trial in trials if trial.score is not None]
    if not scored:
        return None
    best = (max if greater else min)(score for score, _ in scored)
    return next(trial for score, trial in scored if score == best)
