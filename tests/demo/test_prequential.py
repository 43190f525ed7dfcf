"""A stream nobody prepared, through the real server, journal, monitor, guard rails, training, gates and release."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from ecluse.app import open_app
from ecluse.core.errors import InvalidInput
from ecluse.core.event import broken_at
from ecluse.demo.prequential import prequential
from ecluse.testing.streams import stream

LONG = ("abrupt", "gradual", "recurring", "covariate")


@dataclass(frozen=True)
class Dose:
    """How much of which stream."""

    drift: str
    days: int
    rows: int


def project(root: Path, folder: Path, dose: Dose) -> Path:
    shutil.copytree(root / "examples" / "stream", folder, ignore=shutil.ignore_patterns("data", ".ecluse", "*.csv"))
    rows = stream(dose.drift, days=dose.days, rows_a_day=dose.rows, seed=1)
    # As people's files are: times without a zone, labels as digits, a cell left empty.
    rows = rows.with_columns(
        pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S"),
        pl.col("label").cast(pl.Int8),
        pl.when(pl.col("row") % 50 == 0).then(None).otherwise("x6").alias("x6"),
    )
    rows.write_csv(folder / "stream.csv")
    return folder


@pytest.mark.slow
def test_a_sudden_change_is_noticed_learnt_and_released(root: Path, tmp_path: Path) -> None:
    folder = project(root, tmp_path / "stream", Dose("abrupt", days=6, rows=400))
    story = prequential(folder, warm_up=2, every=False)
    assert [window.rows for window in story.windows] == [400] * 4
    assert story.mean("loop") > story.mean("never")
    assert 1 <= story.releases <= story.retrainings
    assert story.windows[0].version == 1
    app = open_app(folder)
    rows = list(app.world.state.ledger())
    assert broken_at(rows) is None
    kinds = [row.event.kind for row in rows]
    assert kinds.index("drift.detected") < kinds.index("loop.decided")
    assert kinds.count("run.finished") == 1 + story.retrainings
    assert kinds.count("version.promoted") == 1 + story.releases
    served = {r["version"] for r in app.world.read_predictions(None, None, None) if r["kind"] == "prediction"}
    assert served == {window.version for window in story.windows}


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("drift", LONG)
def test_as_good_as_training_with_every_window_at_under_half_of_its_trainings(
    drift: str, root: Path, tmp_path: Path
) -> None:
    folder = project(root, tmp_path / "stream", Dose(drift, days=40, rows=1_000))
    story = prequential(folder)
    assert story.mean("loop") >= story.mean("never")
    assert story.mean("loop") >= story.mean("every") - 0.01
    assert story.retrainings < len(story.windows) / 2


@pytest.mark.nightly
def test_on_dbos_and_in_processes_of_its_own_the_story_is_the_same(root: Path, tmp_path: Path) -> None:
    dose = Dose("abrupt", days=6, rows=400)
    stories = [
        prequential(project(root, tmp_path / name, dose), warm_up=2, every=False, durable=durable)
        for name, durable in (("here", False), ("apart", True))
    ]
    assert stories[0] == stories[1]


def test_the_project_is_short_and_a_short_stream_is_refused(root: Path, tmp_path: Path) -> None:
    assert len((root / "examples" / "stream" / "project.py").read_text().splitlines()) < 40
    folder = project(root, tmp_path / "stream", Dose("steady", days=2, rows=50))
    with pytest.raises(InvalidInput, match="2 windows"):
        prequential(folder)
