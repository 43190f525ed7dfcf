"""The mirror in a real MLflow database: what a user of MLflow finds there, twice written or once, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.adapters.tracked import address, tracker_in, trained, written
from tests.loop.worlds import NOW, report_of, run_of

from ecluse.adapters.mlflow_tracker import MlflowTracker
from ecluse.adapters.mlflow_words import plain_name, run_metrics
from ecluse.app import open_scorer
from ecluse.core.errors import Conflict, Corrupt, NotFound, Unavailable
from ecluse.core.settings import MlflowSettings
from ecluse.core.tuning import Question, Trial, Tuning
from ecluse.core.version import ModelVersion, Run, Stage
from ecluse.training.encode import encode

FACTS = {"git_commit": "abc", "git_dirty": "true", "launched_by": "ana", "library.numpy": "2.0"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "a home" / "dev"


@pytest.fixture
def tracker(home: Path) -> MlflowTracker:
    return tracker_in(home)


@pytest.fixture
def client(home: Path, tracker: MlflowTracker) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address(home), registry_uri=address(home))


def a_run(name: str = "a" * 32, bundle: str = "b" * 64) -> Run:
    segments = {
        "plan_type=Basic": {"roc_auc": 0.7},
        "plan_type=a/b": {"roc_auc": 0.6},
        "plan_type=a?b": {"roc_auc": 0.5},
    }
    metrics: dict[str, dict[str, float | None]] = {
        "validation": {"roc_auc": 0.8, "lift": None},
        "train": {"roc_auc": 0.9},
    }
    return replace(run_of(name, bundle), segments=segments, metrics=metrics, facts=FACTS)


def version_of(run: Run, number: int = 1, stage: Stage = Stage.NONE) -> ModelVersion:
    return ModelVersion("churn", number, run.id, run.bundle, stage, NOW, 0.5)


def mirror_versions(tracker: MlflowTracker, root: Path, *numbers: int) -> Run:
    bundle, _ = trained("binary")
    run = a_run(bundle=bundle.digest)
    folder = root / "bundles" / bundle.digest
    if not folder.exists():
        written(bundle, root / "bundles")
    for number in numbers:
        tracker.mirror_version(version_of(run, number), run, folder)
    return run


def load(home: Path, uri: str) -> Any:
    import mlflow

    mlflow.set_tracking_uri(address(home))
    mlflow.set_registry_uri(address(home))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.load_model(uri)


def test_a_run_with_all_it_says(tracker: MlflowTracker, client: Any, home: Path) -> None:
    files = {"roc_curve.png": b"\x89PNG", "importance.json": b"{}"}
    for artifacts in ({}, files, files):  # plots come later; the same again changes nothing
        tracker.mirror_run(a_run(), artifacts)
    experiment = client.get_experiment_by_name("water")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"leaves": "31", "rate": "0.1", "depth": "None"}
    assert run.data.metrics["validation_roc_auc"] == 0.8
    assert run.data.metrics["train_roc_auc"] == 0.9
    assert run.data.metrics["segment/plan_type:Basic/roc_auc"] == 0.7
    assert "validation_lift" not in run.data.metrics
    assert run.data.tags["ecluse.recipe"] == a_run().recipe
    assert run.data.tags["ecluse.git_dirty"] == "true"
    assert (run.data.tags["mlflow.user"], run.data.tags["mlflow.source.git.commit"]) == ("ana", "abc")
    assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 1500)
    names = [each.path for folder in ("plots", "reports") for each in client.list_artifacts(run.info.run_id, folder)]
    assert names == ["plots/roc_curve.png", "reports/importance.json"]
    assert (home / "mlartifacts").is_dir()


def test_a_run_half_written_is_completed(tracker: MlflowTracker, client: Any) -> None:
    tracker.mirror_run(a_run("c" * 32), {})
    experiment = client.get_experiment_by_name("water").experiment_id
    half = client.create_run(experiment, tags={"ecluse.run": "a" * 32})
    tracker.mirror_run(a_run(), {})
    whole = client.get_run(half.info.run_id)
    assert (whole.info.status, whole.data.metrics["validation_roc_auc"]) == ("FINISHED", 0.8)
    assert len(client.search_runs([experiment])) == 2


def test_names_mlflow_takes() -> None:
    metrics = run_metrics(a_run())
    assert sorted(value for name, value in metrics.items() if "a_b" in name) == [0.5, 0.6]
    assert plain_name("=" * 300) == ":" * 250
    assert plain_name("") == "_"


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_mlflow_scores_as_the_scorer(task: str, tracker: MlflowTracker, home: Path, tmp_path: Path) -> None:
    import pandas as pd

    bundle, frame = trained(task)
    run = a_run(bundle=bundle.digest)
    tracker.mirror_version(version_of(run, 7), run, written(bundle, tmp_path / "bundles"))
    tracker.mirror_rollout("churn", 7, None, {7: Stage.PRODUCTION})
    model = load(home, "models:/churn@production")
    expected = open_scorer(bundle).score(encode(frame, bundle.schema.features))
    expected = expected if task == "multiclass" else expected[:, 0]
    whole = pd.DataFrame(frame.to_dict(as_series=False)).rename(columns={"__at": "as_of"})
    raw = whole.drop(columns=list(bundle.schema.derived)).astype({"clicks": "int64"})
    ready = whole.drop(columns=["as_of", "since"])
    for given in (whole, raw, ready):
        assert np.abs(model.predict(given) - expected).max() <= 1e-12
    assert len(np.unique(expected)) > 10


def test_the_signature_tells_what_may_be_given(tracker: MlflowTracker, home: Path, tmp_path: Path) -> None:
    import pandas as pd
    from mlflow.exceptions import MlflowException

    mirror_versions(tracker, tmp_path, 1)
    tracker.mirror_rollout("churn", None, 1)
    model = load(home, "models:/churn@staging")
    required = {each.name: each.required for each in model.metadata.signature.inputs}
    assert {name for name, must in required.items() if must} == {"age", "plan", "senior", "mean_age", "clicks"}
    assert {"since", "as_of", "ratio", "gold", "month", "known_days"} < set(required)
    with pytest.raises(MlflowException, match="missing inputs"):
        model.predict(pd.DataFrame([{"age": 40}]))


def test_mlflow_numbers_versions_itself_and_finds_ours_by_tag(
    tracker: MlflowTracker, client: Any, tmp_path: Path
) -> None:
    run = mirror_versions(tracker, tmp_path, 3, 5, 3)
    found = {each.tags["ecluse.version"]: each for each in client.search_model_versions("name = 'churn'")}
    assert {number: int(each.version) for number, each in found.items()} == {"3": 1, "5": 2}
    assert found["3"].tags["ecluse.bundle"] == run.bundle
    assert len(client.search_runs([client.get_experiment_by_name("water").experiment_id])) == 1


def test_aliases_follow_the_rollout(tracker: MlflowTracker, client: Any, tmp_path: Path) -> None:
    mirror_versions(tracker, tmp_path, 3, 5)
    tracker.mirror_rollout("churn", 3, 5, {3: Stage.PRODUCTION, 5: Stage.STAGING})
    for _ in range(2):
        tracker.mirror_rollout("churn", 5, None, {3: Stage.ARCHIVED, 5: Stage.PRODUCTION})
    aliases = {alias: int(version) for alias, version in client.get_registered_model("churn").aliases.items()}
    stages = {
        each.tags["ecluse.version"]: each.tags["ecluse.stage"]
        for each in client.search_model_versions("name = 'churn'")
    }
    assert (aliases, stages) == ({"production": 2}, {"3": "Archived", "5": "Production"})
    with pytest.raises(NotFound):
        tracker.mirror_rollout("churn", 9, None)
    assert int(client.get_model_version_by_alias("churn", "production").version) == 2


def test_a_gate_report_is_tag_and_artifact(tracker: MlflowTracker, client: Any, tmp_path: Path) -> None:
    run = mirror_versions(tracker, tmp_path, 3)
    for passed in (True, False):
        tracker.mirror_report(report_of(version_of(run, 3), None, passed=passed))
    (version,) = client.search_model_versions("name = 'churn'")
    assert version.tags["ecluse.gate"] == client.get_run(version.run_id).data.tags["ecluse.gate"] == "failed"
    text = Path(client.download_artifacts(version.run_id, "gates/version-3.json", str(tmp_path))).read_text()
    assert json.loads(text)["verdict"]["findings"][0]["subject"] == "roc_auc"
    table = Path(client.download_artifacts(version.run_id, "gates/version-3.md", str(tmp_path))).read_text()
    assert "| floor | roc_auc | 0.8 | 0.7 | failed |" in table
    with pytest.raises(NotFound):
        tracker.mirror_report(report_of(version_of(run, 4), None))


def test_anothers_registered_model_is_not_touched(
    tracker: MlflowTracker, client: Any, home: Path, tmp_path: Path
) -> None:
    mirror_versions(tracker, tmp_path, 1)
    other = MlflowTracker(home, MlflowSettings(), "wine")
    with pytest.raises(Conflict, match="water"):
        mirror_versions(other, tmp_path, 1)
    other.mirror_rollout("churn", None, None)
    assert len(client.search_model_versions("name = 'churn'")) == 1


def test_a_model_made_by_hand_is_adopted(tracker: MlflowTracker, client: Any, tmp_path: Path) -> None:
    client.create_registered_model("churn")
    mirror_versions(tracker, tmp_path, 1)
    assert client.get_registered_model("churn").tags["ecluse.project"] == "water"


def test_a_damaged_bundle_is_not_mirrored(tracker: MlflowTracker, client: Any, tmp_path: Path) -> None:
    bundle, _ = trained("binary")
    folder = written(bundle, tmp_path / "bundles")
    (folder / "model.onnx").write_bytes(b"other")
    run = a_run(bundle=bundle.digest)
    with pytest.raises(Corrupt):
        tracker.mirror_version(version_of(run), run, folder)
    assert not client.search_model_versions("name = 'churn'")


@pytest.mark.parametrize("uri", ["http://ana:secret@127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_store_that_does_not_answer(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable) as caught:
        MlflowTracker(tmp_path, MlflowSettings(tracking_uri=uri), "water").mirror_run(a_run(), {})
    assert "secret" not in str(caught.value)


QUIET = """
import sys
from pathlib import Path
from tests.loop.worlds import NOW, run_of
from ecluse.adapters.mlflow_tracker import MlflowTracker
from ecluse.core.settings import MlflowSettings
from ecluse.core.version import ModelVersion, Stage
assert "mlflow" not in sys.modules
home, folder = Path(sys.argv[1]), Path(sys.argv[2])
run = run_of("a" * 32, folder.name)
tracker = MlflowTracker(home, MlflowSettings(), "water")
assert tracker.empty()
tracker.mirror_version(ModelVersion("churn", 1, run.id, run.bundle, Stage.NONE, NOW), run, folder)
tracker.mirror_rollout("churn", 1, None)
assert not tracker.empty()
"""

LOAD = """
import sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/churn@production")
import pandas
row = {"age": 40, "plan": "Gold", "senior": True, "mean_age": 41.0, "clicks": 3, "since": "2024-01-01", "as_of": "2024-01-31"}
assert 0 <= model.predict(pandas.DataFrame([row]))[0] <= 1
assert not {"sklearn", "skops"} & set(sys.modules)
"""


def run_python(code: str, *arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env, cwd=cwd)


@pytest.mark.slow
def test_a_fresh_process_is_quiet_and_loads_without_scikit_learn(tmp_path: Path, root: Path) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment |= {"PYTHONPATH": str(root), "PATH": "/nonexistent"}  # no git
    folder = written(trained("binary")[0], tmp_path / "bundles")
    first = run_python(QUIET, str(home), str(folder), env=environment, cwd=root)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    second = run_python(LOAD, address(home), env=environment, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout == ""


def test_a_search_has_a_nested_run_for_each_trial_once(tracker: MlflowTracker, client: Any) -> None:
    asked = Question("churn", "roc_auc", True, "rows", "code", "settings", 2, 0, {}, {})
    trials = (
        Trial(0, {"leaves": 31}, (0.7, 0.8)),
        Trial(1, {"leaves": 15}, (0.6,), "pruned", "worse than the median after fold 1"),
        Trial(3, {"leaves": 63}, (0.8, 0.85)),
    )
    tracker.mirror_tuning(Tuning("churn-1", asked, trials[:2], 0, NOW))
    for _ in range(2):  # resumed, and then written once more
        tracker.mirror_tuning(Tuning("churn-1", asked, trials, 3, NOW))
    experiment = client.get_experiment_by_name("water").experiment_id
    runs = client.search_runs([experiment])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 4
    assert [run.info.run_name for run in parents] == ["tuning churn-1"]
    assert parents[0].data.metrics["roc_auc"] == pytest.approx(0.825)
    assert (parents[0].data.metrics["trials"], parents[0].data.metrics["best_trial"]) == (3, 3)
    assert parents[0].data.tags["ecluse.best.leaves"] == "63"
    nested = {run.data.tags["ecluse.trial"]: run for run in runs if run not in parents}
    assert {run.data.tags["mlflow.parentRunId"] for run in nested.values()} == {parents[0].info.run_id}
    assert nested["1"].data.params == {"leaves": "15"}
    assert nested["1"].data.tags["ecluse.state"] == "pruned"
    assert nested["1"].data.metrics == {"roc_auc_fold_1": 0.6}
    assert nested["3"].data.metrics["roc_auc"] == pytest.approx(0.825)
