"""Tune: search better hyperparameters in processes of trials, and tell the ledger what was tried and found. No user code runs here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ecluse.core import errors
from ecluse.core.codec import from_plain, to_plain
from ecluse.core.errors import EcluseError, InvalidInput, Unavailable
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.tuning import OpenStudy, Question, Study, Trial, Tuning, best_of
from ecluse.core.verdict import Verdict
from ecluse.loop.tune_child import TrialProcess, spawn

KIND = "tuning.finished"


@dataclass(frozen=True)
class Plan:
    """How much to search: ``trials`` in all (those of a resumed search included) by ``workers`` processes, for at most ``seconds``, each judged
    on ``folds``; ``resume`` goes on with the model's newest search.
    """

    trials: int = 20
    workers: int = 1
    seconds: float | None = None
    folds: int = 3
    resume: bool = False

    def __post_init__(self) -> None:
        if self.trials < 1 or self.workers < 1 or (self.seconds is not None and self.seconds <= 0):
            raise InvalidInput("trials, workers and the timeout begin above 0", where="tune", cure="ask for at least 1")


@dataclass(frozen=True)
class Tuned:
    """What came of it. Without a ``tuning`` the rows were refused and ``verdict`` says why; ``new`` trials ended in this search."""

    verdict: Verdict
    tuning: Tuning | None = None
    new: int = 0


@dataclass
class _Search:
    """What the threads of one search share; ``lock`` guards the study."""

    study: Study
    plan: Plan
    end: float | None
    spawn: Callable[[], TrialProcess]
    say: Callable[[Trial], None]
    lock: threading.Lock = field(default_factory=threading.Lock)
    begun: int = 0
    told: int = 0
    stop: bool = False


def tune(
    world: World,
    settings: Settings,
    model: str,
    plan: Plan,
    open_study: OpenStudy,
    *,
    actor: str,
    say: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Search over the model's declared ranges and choices, on folds inside the rows trained on as known now.

    The first trial is of the parameters in force. With one worker the same rows, code, settings and number of trials give the same trials,
    also when the search was interrupted and resumed. ``say`` is called with each trial that ended. Appends ``tuning.finished``.
    Raises InvalidInput (nothing to search, or every trial failed), what the declaration or the study raise, Unavailable.
    """
    moment = format_instant(world.clock.now())
    arguments = ["--project", str(world.root), "--profile", settings.profile, "--model", model]
    arguments += ["--folds", str(plan.folds), "--as-of", moment]
    end = None if plan.seconds is None else time.monotonic() + plan.seconds
    first = spawn(world.root, arguments, plan.workers)
    try:
        question, verdict = _greeted(first)
        if not verdict.passed:
            return Tuned(verdict)
        study = open_study(question, plan.resume)
        try:
            search = _Search(study, plan, end, lambda: spawn(world.root, arguments, plan.workers), say)
            search.begun = len(study.trials())
            _run(search, question, first)
            tuning = _tuning(world, study, question)
        finally:
            study.close()
    finally:
        first.end()
    if search.told:
        world.state.append(_told(world, tuning, actor))
    return Tuned(verdict, tuning, search.told)


def _greeted(child: TrialProcess) -> tuple[Question, Verdict]:
    """What is to be searched. Raises what the child could not do, as the class it was."""
    try:
        hello = child.hear(None)
    except EOFError as died:
        raise Unavailable(str(died), where="tune", cure="see what it said on standard error") from None
    if problem := hello.get("error"):
        kind = getattr(errors, problem["kind"], EcluseError)
        raise kind(problem["what"], where=problem["where"], cure=problem["cure"])
    question = from_plain(Question, hello["question"], where="question")
    if not question.searched:
        cure = "declare a Range or a Choice as the default of a parameter of its function"
        raise InvalidInput(f"{question.model} has nothing to search", where="project.py", cure=cure)
    return question, from_plain(Verdict, hello["verdict"], where="verdict")


def _run(search: _Search, question: Question, first: TrialProcess) -> None:
    """One thread for each worker, the first with the process that is there already."""
    try:
        with ThreadPoolExecutor(search.plan.workers) as pool:
            children: list[TrialProcess | None] = [first, *[None] * (search.plan.workers - 1)]
            works = [pool.submit(_work, search, question, child) for child in children]
            for work in works:
                work.result()
    finally:
        search.stop = True


def _work(search: _Search, question: Question, child: TrialProcess | None) -> None:
    """Trials until there are enough, or the time is over."""
    try:
        while (trial := _next(search)) is not None:
            try:
                if child is None:
                    child = search.spawn()
                    _greeted(child)
                ended = _try(search, question, child, trial)
            except EOFError as died:
                if child is not None:
                    child.end()
                ended, child = replace(trial, state="failed", why=str(died)), None
            except TimeoutError:
                ended = None
            _tell(search, trial, ended)
    except BaseException:
        search.stop = True
        raise
    finally:
        if child is not None:
            child.end()


def _next(search: _Search) -> Trial | None:
    with search.lock:
        over = search.end is not None and time.monotonic() >= search.end
        if search.stop or over or search.begun >= search.plan.trials:
            return None
        search.begun += 1
        return search.study.ask()


def _try(search: _Search, question: Question, child: TrialProcess, trial: Trial) -> Trial:
    """A trial, fold by fold. Raises EOFError, TimeoutError."""
    child.say({"parameters": trial.parameters})
    scores: tuple[float, ...] = ()
    for fold in range(question.folds):
        heard = child.hear(search.end)
        if "failed" in heard:
            return replace(trial, scores=scores, state="failed", why=heard["failed"])
        scores = (*scores, float(heard["score"]))
        with search.lock:
            hopeless = search.study.report(trial.number, scores)
        child.say({"go": not hopeless})
        if hopeless:
            return replace(trial, scores=scores, state="pruned", why=f"worse than the median after fold {fold + 1}")
    return replace(trial, scores=scores)


def _tell(search: _Search, asked: Trial, ended: Trial | None) -> None:
    with search.lock:
        if ended is None:
            search.study.drop(asked.number)
            return
        search.study.tell(ended)
        search.told += 1
        search.say(ended)


def _tuning(world: World, study: Study, question: Question) -> Tuning:
    trials = study.trials()
    best = best_of(trials, question.greater)
    if best is None and trials and all(trial.state == "failed" for trial in trials):
        raise InvalidInput(f"every trial failed, the last: {trials[-1].why}", where="tune", cure="mend the model first")
    return Tuning(study.name, question, trials, None if best is None else best.number, world.clock.now())


def _told(world: World, tuning: Tuning, actor: str) -> Event:
    question = tuning.question
    best = None if tuning.best is None else tuning.trial(tuning.best)
    said = f"{tuning.study}: {len(tuning.trials)} trials"
    if best is not None:
        said += f", best {question.metric} {best.score:.4f} by trial {best.number}"
    evidence: Mapping[str, Any] = {"tuning": to_plain(tuning)}
    return Event(KIND, world.clock.now(), actor, question.model, reason=said, evidence=evidence)
