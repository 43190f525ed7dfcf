"""A search with real processes of trials: repeatable, resumable, told in the ledger; what fails or dies is a failed trial."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.projects.small_data import PROJECT, write_month

from ecluse.adapters.tuner_optuna import opener
from ecluse.app import App, open_app
from ecluse.core.codec import from_plain
from ecluse.core.errors import DeclarationError, InvalidInput
from ecluse.core.tuning import Trial, Tuning
from ecluse.loop.tune import Plan, Tuned, tune
from ecluse.loop.tune_mirror import mirror_tunings

MONTHS = (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))
DYING = """
import os
@model("dies", predicts=spend, features=[profile], judged_by="rmse")
def dies(alpha: Any = Choice(1.0, 2.0, 3.0, default=2.0)) -> Any:
    if alpha == 2.0:
        os._exit(3)
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import scaled_encoder

    return make_pipeline(scaled_encoder(), Ridge(alpha))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "small"
    shutil.copytree(PROJECT, folder)
    app = open_app(folder)
    for seed, month in enumerate(MONTHS):
        assert app.ingest(write_month(folder.parent / "data", month, seed=seed), month).passed
    app.world.state.close()  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def app(root: Path, tmp_path: Path) -> App:
    shutil.copytree(root, tmp_path / "small")
    return open_app(tmp_path / "small")


def search(app: App, model: str = "left", **plan: object) -> Tuned:
    return tune(app.world, app.settings, model, Plan(**plan), opener(app.home), actor="ana")  # type: ignore[arg-type]


def trials_of(tuned: Tuned) -> tuple[Trial, ...]:
    assert tuned.tuning is not None, tuned.verdict
    return tuned.tuning.trials


def shown(trials: Sequence[Trial]) -> list[tuple[object, ...]]:
    return [(dict(t.parameters), t.scores, t.state) for t in trials]


class Shown:
    """What a tracking mirror is told."""

    def __init__(self) -> None:
        self.tunings: list[Tuning] = []

    def mirror_tuning(self, tuning: Tuning) -> None:
        self.tunings.append(tuning)


def test_a_search_is_repeatable_resumable_and_told(app: App, tmp_path: Path) -> None:
    whole = search(app, trials=6, folds=2)
    trials = trials_of(whole)
    assert len(trials) == whole.new == 6
    assert dict(trials[0].parameters) == {"kind": "boosting", "learning_rate": 0.1, "trees": 20}
    assert all(t.state == "failed" for t in trials if t.parameters["kind"] == "broken")
    event = list(app.world.state.ledger())[-1].event
    assert (event.kind, event.actor, event.model) == ("tuning.finished", "ana", "left")
    assert from_plain(Tuning, event.evidence["tuning"], where="") == whole.tuning
    assert whole.tuning is not None
    best = whole.tuning.trial(whole.tuning.best or 0).score
    assert best == max(t.score for t in trials if t.score is not None)

    again = open_app(app.root)
    begun = search(again, trials=3, folds=2)  # a search of its own
    gone_on = search(again, trials=6, folds=2, resume=True)
    assert (begun.new, gone_on.new) == (3, 3)
    assert shown(trials_of(gone_on)) == shown(trials)

    mirror = Shown()
    assert mirror_tunings(app.world.state, mirror) == 2
    assert [len(each.trials) for each in mirror.tunings] == [6, 6]
    assert mirror_tunings(app.world.state, mirror) == 0
    assert mirror_tunings(app.world.state, mirror, anew=True) == 2


def test_a_process_that_dies_fails_its_trial_alone(app: App) -> None:
    declared = app.root / "project.py"
    declared.write_text(declared.read_text() + DYING)
    # The first trial would take the whole search with it: the parameters in force must at least be built.
    (app.root / "ecluse.toml").write_text(
        (app.root / "ecluse.toml").read_text() + "\n[models.dies.parameters]\nalpha = 1.0\n"
    )
    trials = trials_of(search(open_app(app.root), "dies", trials=5, workers=2, folds=2))
    assert len(trials) == 5
    for trial in trials:
        assert (trial.state == "failed") == (trial.parameters["alpha"] == 2.0)
    assert any("ended with code 3" in trial.why for trial in trials)


def test_what_cannot_be_searched(app: App) -> None:
    with pytest.raises(InvalidInput, match="nothing to search"):
        search(app, "tier")
    with pytest.raises(InvalidInput, match="begin above 0"):
        search(app, trials=0)
    (app.root / "project.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(DeclarationError, match="nothing_of_that_name"):
        search(app)


def test_no_time_means_no_trial_and_too_few_rows_mean_no(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    late = search(app, trials=3, seconds=0.001)
    assert (late.new, trials_of(late)) == (0, ())
    assert "tuning.finished" not in {row.event.kind for row in app.world.state.ledger()}
    monkeypatch.setenv("ECLUSE_TRAINING__FRAME__ROWS", "1000000")
    refused = search(open_app(app.root))
    assert refused.tuning is None
    assert not refused.verdict.passed
