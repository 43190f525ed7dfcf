"""What MLflow loads from the project's database scores as the server answers: the same version, the same features, to 1e-6."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.circle import MODEL, churn_project, first_version

from ecluse.adapters.journal_reader import read as read_journal
from ecluse.app import App
from ecluse.core.instants import format_instant, from_micros
from ecluse.demo.server import Server, free_port
from ecluse.demo.story import STABLE, month_end

ASKED = 60
FEW = {
    "ECLUSE_TRAINING__FRAME": "{ rows = 100, positives = 10, missing = 0.9 }",
    "ECLUSE_GATES__FLOOR": "{ roc_auc = 0.5 }",
}
LENIENT = {
    "ECLUSE_GATES__MAX_GAP": "1.0",
    "ECLUSE_GATES__SEGMENT_FLOOR": "{ roc_auc = 0.0 }",
    "ECLUSE_GATES__LATENCY_MS": "1000",
}

LOAD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas
address, uri, rows = sys.argv[1], sys.argv[2], json.load(sys.stdin)
mlflow.set_tracking_uri(address)
mlflow.set_registry_uri(address)
model = mlflow.pyfunc.load_model(uri)
print(json.dumps([float(score) for score in model.predict(pandas.DataFrame(rows))]))
"""
"""A process of its own: importing MLflow takes seconds and memory no other test should pay."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[App, list[dict[str, Any]], list[dict[str, Any]]]:
    """A released version of a small churn project, answers of its server, and the journal's records of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (FEW | LENIENT).items():
            patch.setenv(name, value)
        app = churn_project(tmp_path_factory.mktemp("mlflow") / "water", subscribers=900, months=3)
        for month in STABLE[:3]:
            assert app.ingest(app.root / "data" / month, month_end(month)).passed
        first_version(app)
        ranked = app.score(MODEL).frame["key"].to_list()
        keys = ranked[:: len(ranked) // ASKED]  # from the likeliest to the least likely
        server = Server.start(app, free_port())
        try:
            answers = [server.ask({"user_id": key}) for key in keys]
        finally:
            server.stop()
        assert app.mirror() > 0
    records = {record["id"]: record for record in read_journal(app.home / "journal")}
    return app, answers, [records[answer["prediction_id"]] for answer in answers]


def scores_of(app: App, uri: str, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """What ``mlflow.pyfunc.load_model(uri)`` of the project's database answers."""
    address = f"sqlite:///{app.home / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", LOAD, address, uri],
        input=json.dumps(list(rows)),
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(app.home).parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(app: App, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the server read for these predictions, as a caller of MLflow gives it: every stored feature, and the moment."""
    schema = app.world.bundles.get(app.world.state.version(MODEL, 1).bundle).schema
    instants = {name for view in schema.views for name, kind in view.features.items() if kind == "instant"}
    assert instants, "the template reads a moment"
    return [
        {name: _plain(value, name in instants) for name, value in record["inputs"].items()} | {"as_of": record["as_of"]}
        for record in records
    ]


def _plain(value: Any, is_instant: bool) -> Any:
    return format_instant(from_micros(value)) if is_instant and value is not None else value


def test_production_scores_as_the_server_answers(
    served: tuple[App, list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    app, answers, records = served
    scores = scores_of(app, f"models:/{MODEL}@production", rows_of(app, records))
    assert {answer["version"] for answer in answers} == {1}
    assert len({answer["proba"] for answer in answers}) > 10, "answers that tell rows apart"
    assert scores == pytest.approx([answer["proba"] for answer in answers], abs=1e-6, rel=0)
