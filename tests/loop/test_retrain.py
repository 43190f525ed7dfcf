"""One training: recorded whole or not at all, the same anywhere and any time, refused with reasons, looked at afterwards."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from tests.projects.small_data import PROJECT, write_month

from ecluse.app import App, open_app
from ecluse.core.codec import canonical, digest, from_plain
from ecluse.core.errors import DeclarationError, InvalidInput, Unavailable
from ecluse.core.recipe import trained_on
from ecluse.core.snapshot import Dataset
from ecluse.core.version import Run
from ecluse.loop.retrain import Trained, after_release, train, training_table

MONTHS = (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))
LATER = datetime(2024, 6, 1, tzinfo=UTC)

CHILD = """
import sys, time
from datetime import timedelta
from pathlib import Path

shift = timedelta(days=int(sys.argv[2]))
real_time, real_local = time.time, time.localtime
time.time = lambda: real_time() + shift.total_seconds()
time.localtime = lambda seconds=None: real_local(time.time() if seconds is None else seconds)

from ecluse.adapters.clock import SystemClock
real_now = SystemClock.now
SystemClock.now = lambda self: real_now(self) + shift

from ecluse.app import open_app
from ecluse.core.codec import digest
from ecluse.loop.retrain import train

app = open_app(Path(sys.argv[1]))
for model, overrides in (("left", {}), ("left", {"kind": "neighbours"}), ("tier", {}), ("spend", {})):
    made = train(app.world, app.project, app.settings, model, actor="child", overrides=overrides, dry_run=True)
    print(model, made.run.bundle, digest(made.run.metrics), digest(made.run.segments))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project with two months ingested, on the system's clock; tests copy it."""
    folder = tmp_path_factory.mktemp("project") / "small"
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


def run_training(app: App, model: str = "left", **more: Any) -> Trained:
    return train(app.world, app.project, app.settings, model, actor="ana", **{"moment": LATER, **more})


def run_of(trained: Trained) -> Run:
    assert trained.run is not None, trained.verdict
    return trained.run


@pytest.mark.parametrize(
    ("model", "metric", "least", "most"),
    [("left", "roc_auc", 0.75, 1), ("tier", "log_loss", 0, 0.9), ("spend", "rmse", 0, 8)],
)
def test_a_training_is_recorded_whole(app: App, model: str, metric: str, least: float, most: float) -> None:
    trained = run_training(app, model)
    run = run_of(trained)
    stored = app.world.state.run(run.id)
    assert canonical(stored) == canonical(run)
    bundle = app.world.bundles.get(run.bundle)
    assert bundle == trained.bundle
    assert app.world.bundles.seal(run.bundle).payload == run.bundle
    event = list(app.world.state.ledger())[-1].event
    assert (event.kind, event.actor, event.model) == ("run.finished", "ana", model)
    assert event.evidence["bundle"] == run.bundle
    measured = run.metrics["validation"][metric]
    assert measured is not None
    assert least <= measured <= most
    assert {"region=west", "train: region=west", "senior=true"} <= set(run.segments)
    assert {"launched_by", "python", "platform", "host", "library.scikit-learn"} <= set(run.facts)
    assert set(run.rows) == {"train", "validation"}
    assert (run.threshold is not None) == (model == "left")


def test_no_row_judged_on_was_trained_on(app: App) -> None:
    trained = run_training(app)
    assert trained.bundle is not None
    held = pl.read_parquet(io.BytesIO(app.world.bundles.read_beside(run_of(trained).bundle, "held_out.parquet")))
    split = trained.bundle.manifest.split
    assert held.height == trained.rows["validation"]
    assert not any(trained_on(split, key, at) for key, at in held.select("__key", "__at").rows())


def test_two_fresh_processes_under_shifted_clocks_make_the_same_bundles(app: App) -> None:
    base = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    root = Path(__file__).resolve().parents[2]
    done = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CHILD, str(app.root), shift],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=base | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(root)},
        )
        for shift, seed, threads in (("0", "1", "1"), ("500", "2", "2"))
    ]  # fmt: skip
    answers = [process.communicate(timeout=200) for process in done]
    assert [process.returncode for process in done] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert len(answers[0][0].splitlines()) == 4


def test_a_run_is_reproduced_from_its_dataset(app: App) -> None:
    run = run_of(run_training(app))
    month = datetime(2024, 3, 31, tzinfo=UTC)
    assert app.ingest(write_month(app.root / "data", month, seed=9), month).passed
    bundle = app.world.bundles.get(run.bundle)
    dataset = from_plain(Dataset, bundle.document("dataset.json"))
    again = run_of(run_training(app, dataset=dataset, overrides=run.parameters, dry_run=True))
    assert (again.bundle, again.metrics) == (run.bundle, run.metrics)
    assert run_of(run_training(app, dry_run=True)).bundle != run.bundle


def test_what_was_not_known_then_changes_nothing(app: App) -> None:
    early = datetime(2024, 2, 20, tzinfo=UTC)
    first = run_of(run_training(app, moment=early, dry_run=True))
    second = run_of(run_training(app, moment=early - timedelta(days=5), dry_run=True))
    assert first.bundle == second.bundle  # nothing became known in between
    assert run_of(run_training(app, dry_run=True)).bundle != first.bundle


def test_a_dry_run_leaves_nothing(app: App) -> None:
    run = run_of(run_training(app, dry_run=True))
    assert app.world.state.runs() == ()
    assert not [row for row in app.world.state.ledger() if row.event.kind.startswith("run.")]
    assert not (app.home / "bundles" / run.bundle).exists()
    assert run_of(run_training(app)).bundle == run.bundle


def test_parameters_come_from_file_and_command(app: App) -> None:
    settings = replace(app.settings, parameters={"trees": 7})
    world, project = app.world, app.project
    file = run_of(train(world, project, settings, "left", actor="ana", moment=LATER, dry_run=True))
    command = run_of(
        train(world, project, settings, "left", actor="ana", moment=LATER, overrides={"trees": 9}, dry_run=True)
    )
    assert (file.parameters["trees"], command.parameters["trees"]) == (7, 9)
    assert file.bundle != command.bundle
    with pytest.raises(DeclarationError, match="did you mean `trees`"):
        run_training(app, overrides={"tree": 3})


def test_a_fit_that_fails_leaves_one_fact_and_nothing_else(app: App) -> None:
    with pytest.raises(InvalidInput, match=r"failed to fit.*model left"):
        run_training(app, overrides={"kind": "broken"})
    event = list(app.world.state.ledger())[-1].event
    assert (event.kind, event.model) == ("run.failed", "left")
    assert "failed to fit" in event.reason
    assert event.evidence["seconds"] > 0, "it has cost its time"
    assert app.world.state.runs() == ()
    assert not list((app.home / "bundles").glob("*"))


def test_immature_labels_wait(app: App) -> None:
    trained = run_training(app, moment=MONTHS[0] + timedelta(days=9))
    assert trained.run is None
    assert trained.waits_until == MONTHS[0] + timedelta(days=10)
    assert any(
        finding.why.startswith("wait for labels until 2024-02-10T00:00:00Z") for finding in trained.verdict.failed
    )
    event = list(app.world.state.ledger())[-1].event
    assert event.kind == "run.failed"
    assert "wait for labels until 2024-02-10" in event.reason
    assert event.evidence["seconds"] > 0
    assert run_training(app, moment=MONTHS[0] + timedelta(days=10)).run is not None


def test_before_any_data_there_is_nothing_to_train_on(app: App) -> None:
    trained = run_training(app, moment=datetime(2023, 1, 1, tzinfo=UTC), dry_run=True)
    assert trained.run is None
    assert trained.waits_until is None
    assert [finding.check for finding in trained.verdict.failed] == ["frame.rows"]


def test_too_few_rows_are_refused_by_the_contract(app: App) -> None:
    training = replace(app.settings.training, frame=replace(app.settings.training.frame, rows=100_000))
    trained = train(
        app.world, app.project, replace(app.settings, training=training), "spend", actor="ana", moment=LATER
    )
    assert trained.run is None
    assert trained.verdict.failed[0].limit == 100_000


def test_a_disk_that_is_full_leaves_no_run(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Unavailable("no space left", where="bundles")

    monkeypatch.setattr(type(app.world.bundles), "put", full)
    with pytest.raises(Unavailable):
        run_training(app)
    assert app.world.state.runs() == ()


def test_artifacts_are_made_afterwards_without_the_user_s_code(app: App) -> None:
    run = run_of(run_training(app))
    shutil.rmtree(app.home / "snapshots")
    (app.root / "project.py").unlink()
    files = after_release(app.world, app.settings, run)
    assert {"roc_curve.png", "importance.json", "sample_predictions.csv", "artifacts.json"} <= set(files)
    listed = json.loads(app.world.bundles.read_beside(run.bundle, "artifacts.json"))["files"]
    assert all(app.world.bundles.read_beside(run.bundle, name) == files[name] for name in listed)
    assert app.world.bundles.get(run.bundle).digest == run.bundle


def test_coefficients_lie_beside_a_linear_bundle(app: App) -> None:
    run = run_of(run_training(app, "spend"))
    found = json.loads(app.world.bundles.read_beside(run.bundle, "coefficients.json"))
    assert dict(zip(found["names"], found["coefficients"][0], strict=True))["hours"] > 5


def test_a_model_that_is_not_compiled_is_recorded_too(app: App) -> None:
    trained = run_training(app, overrides={"kind": "neighbours"})
    assert run_of(trained).facts["scorer"] == "skops"


def test_git_is_recorded(app: App) -> None:
    for command in (
        ["init", "-q"],
        ["add", "project.py"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", "-C", str(app.root), *command], check=True)
    facts = run_of(run_training(app, dry_run=True)).facts
    assert len(facts["git_commit"]) == 40
    assert facts["git_dirty"] == "true"  # ecluse.toml was never added
    assert digest(facts) != ""


def test_the_training_table_has_the_label_last(app: App) -> None:
    table = training_table(app.world, app.project, app.settings, "left", LATER)
    assert table.columns[:2] == ["__key", "__at"]
    assert table.columns[-1] == "label"
    assert table.height == 800
    assert cast(float, table["pace"].null_count()) < 10
