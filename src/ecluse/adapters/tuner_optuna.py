"""Searches on Optuna: which parameters to try next, which trials are hopeless, and all of them remembered in ``tuning.db``; the only importer.

Akiba et al. (2019), "Optuna: a next-generation hyperparameter optimization framework"; the sampler is the tree-structured Parzen estimator of
Bergstra et al. (2011), "Algorithms for hyper-parameter optimization", the pruner the median rule of Golovin et al. (2017), "Google Vizier".
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecluse.adapters.files import disk, make_directory
from ecluse.core.codec import canonical, digest
from ecluse.core.errors import Conflict, EcluseError, NotFound, Unavailable
from ecluse.core.model import Choice, Range, Scalar
from ecluse.core.tuning import Question, Trial, TrialState

if TYPE_CHECKING:
    import optuna

FILE, LOCK = "tuning.db", "tuning.lock"
QUESTION, DROPPED, WHY = "ecluse.question", "ecluse.dropped", "ecluse.why"
FIRST_AT_RANDOM = 10
"""So many trials before the sampler learns from them."""


class OptunaStudy:
    """Port Study over ``tuning.db`` of a profile's home; one searching process at a time.

    What is tried in place ``n`` depends on the question's seed and on the trials before, and on nothing else: a search that was interrupted
    and taken up again tries what it would have tried.
    """

    def __init__(self, study: optuna.Study, question: Question, lock: int) -> None:
        self._study, self._question, self._lock = study, question, lock
        self._open: dict[int, optuna.Trial] = {}

    @property
    def name(self) -> str:
        """``<model>-<number>``."""
        return self._study.study_name

    def ask(self) -> Trial:
        """The next trial; the first is of the parameters in force."""
        import optuna

        with _asking():
            place = sum(DROPPED not in trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
            seed = int(digest([self._question.seed, place])[:8], 16)
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_AT_RANDOM)
            trial = self._study.ask(_distributions(self._question.searched))
        self._open[trial.number] = trial
        return Trial(trial.number, {**self._question.start, **trial.params})

    def report(self, number: int, scores: Sequence[float]) -> bool:
        """Whether the mean so far is worse than the median of the trials before at the same fold; never said of the last fold."""
        if len(scores) >= self._question.folds:
            return False
        with _asking():
            self._open[number].report(sum(scores) / len(scores), len(scores) - 1)
            return bool(self._open[number].should_prune())

    def tell(self, trial: Trial) -> None:
        """How a trial ended."""
        from optuna.trial import TrialState as State

        states = {"complete": State.COMPLETE, "pruned": State.PRUNED, "failed": State.FAIL}
        open_ = self._open.pop(trial.number)
        with _asking():
            open_.set_user_attr("ecluse.scores", list(trial.scores))
            if trial.why:
                open_.set_user_attr(WHY, trial.why[:1_000])
            self._study.tell(open_, trial.score, state=states[trial.state])

    def drop(self, number: int) -> None:
        """It counts as never begun: what it tried is tried again in the same place."""
        with _asking():
            _drop(self._study, self._open.pop(number))

    def trials(self) -> tuple[Trial, ...]:
        """Those that ended."""
        with _asking():
            every = self._study.get_trials(deepcopy=False)
        found = (t for t in every if t.state.is_finished() and DROPPED not in t.user_attrs)
        return tuple(_trial(self._question, each) for each in found)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)


def open_study(home: Path, question: Question, resume: bool) -> OptunaStudy:
    """See :class:`ecluse.core.tuning.OpenStudy`."""
    make_directory(home)
    lock = _alone(home / LOCK)
    try:
        with disk(home / FILE):
            os.close(os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with _asking():
            study = _study(home / FILE, question, resume)
        return OptunaStudy(study, question, lock)
    except BaseException:
        os.close(lock)
        raise


def opener(home: Path) -> functools.partial[OptunaStudy]:
    """:func:`open_study` of a profile's home."""
    return functools.partial(open_study, home)


def _study(path: Path, question: Question, resume: bool) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    names = optuna.get_all_study_names(storage)
    numbers = [int(n.rpartition("-")[2]) for n in names if n.rpartition("-")[0] == question.model]
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
    if resume:
        if not numbers:
            raise NotFound(f"no search of {question.model} to go on with", cure="leave --resume away")
        study = optuna.load_study(study_name=f"{question.model}-{max(numbers)}", storage=storage, pruner=pruner)
        _compare(json.loads(study.user_attrs[QUESTION]), question, study.study_name)
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            _drop(study, optuna.Trial(study, trial._trial_id))  # its process was killed
        return study
    name = f"{question.model}-{max(numbers, default=0) + 1}"
    direction = optuna.study.StudyDirection.MAXIMIZE if question.greater else optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(study_name=name, storage=storage, direction=direction, pruner=pruner)
    study.set_user_attr(QUESTION, canonical(question).decode())
    study.enqueue_trial({each: question.start[each] for each in question.searched})
    return study


def _drop(study: optuna.Study, trial: optuna.Trial) -> None:
    """The very first was asked for by name: a sampler would not come back to it."""
    import optuna

    trial.set_user_attr(DROPPED, True)
    parameters = trial.params
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    if all(DROPPED in each.user_attrs for each in study.get_trials(deepcopy=False)):
        study.enqueue_trial(parameters)


def _compare(before: Mapping[str, Any], question: Question, name: str) -> None:
    now = json.loads(canonical(question))
    if changed := [key for key in now if before.get(key) != now[key]]:
        cure = "leave --resume away: scores of other rows, code or settings cannot be compared"
        raise Conflict(f"{', '.join(changed)} changed since {name}", where="tune", cure=cure)


def _distributions(space: Mapping[str, Range | Choice]) -> dict[str, Any]:
    from optuna import distributions as kinds

    found: dict[str, Any] = {}
    for name, each in space.items():
        if isinstance(each, Choice):
            found[name] = kinds.CategoricalDistribution(each.values)
        elif all(isinstance(value, int) for value in (each.low, each.high, each.default)):
            found[name] = kinds.IntDistribution(int(each.low), int(each.high), log=each.log)
        else:
            found[name] = kinds.FloatDistribution(float(each.low), float(each.high), log=each.log)
    return found


def _trial(question: Question, found: optuna.trial.FrozenTrial) -> Trial:
    state: TrialState = "failed"
    if found.state.name in ("COMPLETE", "PRUNED"):
        state = "complete" if found.state.name == "COMPLETE" else "pruned"
    parameters: dict[str, Scalar | None] = {**question.start, **found.params}
    scores = tuple(float(score) for score in found.user_attrs.get("ecluse.scores", ()))
    return Trial(found.number, parameters, scores, state, found.user_attrs.get(WHY, ""))


def _alone(path: Path) -> int:
    with disk(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict("another process searches now", where=str(path), cure="wait for it, or end it") from None
    return fd


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Unavailable(f"Optuna is not installed: {error}", cure="pip install 'ecluse[tune]'") from error
    except EcluseError:
        raise
    except Exception as error:  # Optuna and SQLAlchemy share no base class
        what = f"{type(error).__name__}: {str(error)[:300]}"
        raise Unavailable(what, where=FILE, cure="move the file away: the ledger knows what was found") from error
