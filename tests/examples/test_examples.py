"""The example projects: months within their contracts, a first version that is released, a drift that a second one answers."""

import calendar
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ecluse.app import App, open_app
from ecluse.core.version import GateReport

STABLE, DRIFTED = ("2024-01", "2024-02", "2024-03"), ("2024-04", "2024-05", "2024-06")


@pytest.fixture(params=["multiclass", "regression"])
def app(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> App:
    """A copy of the example with six generated months; MLflow's mirror is another matter."""
    folder = tmp_path / str(request.param)
    shutil.copytree(
        root / "examples" / str(request.param), folder, ignore=shutil.ignore_patterns(".ecluse", "data", "__pycache__")
    )
    generate = [sys.executable, "generate.py", "--months", "6", "--drift-from", DRIFTED[0]]
    subprocess.run(generate, cwd=folder, check=True, capture_output=True, timeout=60)
    return open_app(folder, profile="dev")


def _ingest(app: App, month: str) -> None:
    year, number = map(int, month.split("-"))
    as_of = datetime(year, number, calendar.monthrange(year, number)[1], tzinfo=UTC)
    done = app.ingest(app.root / "data" / month, as_of)
    assert done.passed, done
    assert not any(table.quarantined for table in done.tables), done


def _candidate(app: App, model: str) -> GateReport:
    trained = app.train(model)
    assert trained.run is not None
    return app.gate(model, app.register(trained.run.id).number)


def test_an_example_is_trained_released_and_retrained_for_the_better(app: App) -> None:
    model = app.project.model().name
    for month in STABLE:
        _ingest(app, month)
    first = _candidate(app, model)
    assert first.verdict.passed, first.verdict.failed
    app.promote(model, first.version, reason="the first")
    for month in DRIFTED:
        _ingest(app, month)
    second = _candidate(app, model)
    assert second.verdict.passed, second.verdict.failed
    gain = next(finding for finding in second.verdict.findings if finding.check == "non_regression")
    assert "gain +" in gain.why
    rollout = app.promote(model, second.version, reason="it drifted")
    assert rollout.champion == second.version
    back = app.rollback(model, reason="a drill")
    assert back.champion == first.version
