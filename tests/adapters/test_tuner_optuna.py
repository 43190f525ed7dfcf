"""A search remembers its trials: the same question gives the same ones, interrupted or not; another question is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ecluse.adapters.tuner_optuna import LOCK, OptunaStudy, open_study
from ecluse.core.errors import Conflict, NotFound, Unavailable
from ecluse.core.model import Choice, Fixed, Parameter, Range, Scalar
from ecluse.core.tuning import Question, Trial, best_of

SPACE: dict[str, Parameter] = {
    "rate": Range(0.01, 0.3, default=0.1, log=True),
    "leaves": Choice(15, 31, "auto", default=31),
    "trees": Range(1, 200, default=20),
    "solver": Fixed("lbfgs"),
}
START: dict[str, Scalar | None] = {"rate": 0.1, "leaves": 31, "trees": 20, "solver": "lbfgs"}
ASKED = Question("churn", "roc_auc", True, "rows", "code", "settings", 2, 7, SPACE, START)


def quality(trial: Trial) -> float:
    rate, trees = trial.parameters["rate"], trial.parameters["trees"]
    assert isinstance(rate, float)
    assert isinstance(trees, int)
    return 1 - (rate - 0.05) ** 2 - (trees - 60) ** 2 / 1e5


@contextmanager
def searching(home: Path, question: Question = ASKED, resume: bool = False) -> Iterator[OptunaStudy]:
    study = open_study(home, question, resume)
    try:
        yield study
    finally:
        study.close()


def run(study: OptunaStudy, count: int, score: Callable[[Trial], float] = quality) -> None:
    for _ in range(count):
        trial = study.ask()
        scores = (score(trial) - 0.01, score(trial) + 0.01)
        if study.report(trial.number, scores[:1]):
            study.tell(replace(trial, scores=scores[:1], state="pruned"))
            continue
        assert not study.report(trial.number, scores)
        study.tell(replace(trial, scores=scores))


def parameters(trials: tuple[Trial, ...]) -> list[object]:
    return [(dict(trial.parameters), trial.scores, trial.state) for trial in trials]


def test_the_first_trial_is_of_the_parameters_in_force_and_all_stay_in_their_ranges(tmp_path: Path) -> None:
    with searching(tmp_path) as study:
        run(study, 20)
        trials = study.trials()
    assert dict(trials[0].parameters) == START
    for trial in trials:
        assert trial.parameters["solver"] == "lbfgs"
        assert trial.parameters["leaves"] in (15, 31, "auto")
        assert 1 <= int(trial.parameters["trees"] or 0) <= 200
    best = best_of(trials, True)
    assert best is not None
    assert quality(best) > quality(trials[0])
    assert {trial.state for trial in trials} == {"complete", "pruned"}  # the median rule had its say


def test_the_same_question_gives_the_same_trials_and_another_seed_others(tmp_path: Path) -> None:
    found = []
    for home, seed in (("a", 7), ("b", 7), ("c", 8)):
        with searching(tmp_path / home, replace(ASKED, seed=seed)) as study:
            run(study, 14)
            found.append(parameters(study.trials()))
    assert found[0] == found[1]
    assert found[0][1:] != found[2][1:]


@pytest.mark.parametrize("killed_at", [0, 5, 12])
def test_a_search_that_was_killed_tries_what_it_would_have_tried(tmp_path: Path, killed_at: int) -> None:
    with searching(tmp_path / "whole") as study:
        run(study, 14)
        whole = parameters(study.trials())
    with searching(tmp_path / "killed") as study:
        run(study, killed_at)
        study.ask()  # it never told: its process was killed
    with searching(tmp_path / "killed", resume=True) as study:
        assert len(study.trials()) == killed_at
        stopped = study.ask()
        study.drop(stopped.number)  # stopped again, by the clock
        run(study, 14 - killed_at)
        assert parameters(study.trials()) == whole


def test_only_the_same_question_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no search of churn"):
        open_study(tmp_path, ASKED, True)
    with searching(tmp_path) as study:
        run(study, 2)
        assert study.name == "churn-1"
        with pytest.raises(Conflict, match="another process"):
            open_study(tmp_path, ASKED, True)
    for changed in ({"dataset": "later"}, {"code": "other"}, {"folds": 3}):
        with pytest.raises(Conflict, match=next(iter(changed))):
            open_study(tmp_path, replace(ASKED, **changed), True)
    with searching(tmp_path) as study:
        assert (study.name, study.trials()) == ("churn-2", ())
    assert (tmp_path / "tuning.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / LOCK).exists()


def test_a_damaged_store_is_said_so_and_lets_go_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "tuning.db").write_bytes(b"no database" * 1_000)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"tuning\.db"):
            open_study(tmp_path, ASKED, False)
