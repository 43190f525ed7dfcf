"""The churn generator: the same for the same seed, within its contracts, and drifting so that a retrained model is truly better."""

import importlib.util
import itertools
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from ecluse.adapters.project_template import TEMPLATES, write_project
from ecluse.app import App, open_app
from ecluse.core.schema import Feature
from ecluse.stats.bootstrap import paired_bootstrap
from ecluse.stats.metrics_binary import roc_auc
from ecluse.stats.psi import psi
from ecluse.training.encode import model_frame

Floats = np.ndarray[Any, np.dtype[np.float64]]
MONTHS, DRIFT = 9, "2024-06"
STABLE, FIRST_DRIFTED, SECOND_DRIFTED = "2024-04-30", "2024-05-31", "2024-06-30"  # by what is labelled there


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("churn_generator", TEMPLATES / "churn" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _moment(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def _generate(generator: ModuleType, out: Path, *arguments: str) -> dict[str, bytes]:
    generator.main(["--out", str(out), "--subscribers", "300", *arguments])
    return _files(out)


def test_a_seed_gives_the_same_bytes(generator: ModuleType, tmp_path: Path) -> None:
    one = _generate(generator, tmp_path / "one", "--months", "3", "--seed", "5")
    assert one == _generate(generator, tmp_path / "two", "--months", "3", "--seed", "5")
    assert one != _generate(generator, tmp_path / "other", "--months", "3", "--seed", "6")


def test_later_months_and_a_later_drift_change_no_earlier_month(generator: ModuleType, tmp_path: Path) -> None:
    short = _generate(generator, tmp_path / "short", "--months", "3")
    long = _generate(generator, tmp_path / "long", "--months", "6", "--drift-from", "2024-05")
    assert {name: data for name, data in long.items() if name < "2024-04"} == short


def test_labels_lie_two_folders_on(generator: ModuleType, tmp_path: Path) -> None:
    files = _generate(generator, tmp_path, "--months", "4", "--from", "2023-11")
    moments = {name[:7]: set(pl.read_csv(data)["at"]) for name, data in files.items() if name.endswith("labels.csv")}
    assert moments == {"2024-01": {"2023-11-30T00:00:00Z"}, "2024-02": {"2023-12-31T00:00:00Z"}}


def test_disputes_correct_payments_of_earlier_folders(generator: ModuleType, tmp_path: Path) -> None:
    files = _generate(generator, tmp_path, "--months", "4")
    paid = [pl.read_csv(files[f"2024-0{month}/payments.csv"]) for month in range(1, 5)]
    again = [later.join(earlier, on=["user_id", "event_id", "at"]) for earlier, later in itertools.pairwise(paid)]
    corrected = pl.concat(again)
    assert corrected.height > 0
    assert corrected["failed"].to_list() == [1] * corrected.height
    assert corrected["failed_right"].to_list() == [0] * corrected.height
    assert not any(frame.select("user_id", "event_id").is_duplicated().any() for frame in paid)


@pytest.fixture(scope="module")
def project(generator: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> App:
    """The project with all its months ingested: none of them refused, no row in quarantine."""
    folder = tmp_path_factory.mktemp("churn") / "streaming"
    write_project(folder)
    out = folder / "data"
    generator.main(["--out", str(out), "--months", str(MONTHS), "--drift-from", DRIFT, "--subscribers", "5000"])
    app = open_app(folder, profile="dev")
    for month in sorted(out.iterdir()):
        number = generator.month_number(month.name)
        done = app.ingest(month, datetime.fromtimestamp(generator.month_end(number), UTC))
        assert done.passed, done
        assert not any(table.quarantined for table in done.tables), done
    return app


@pytest.fixture(scope="module")
def rows(project: App) -> pl.DataFrame:
    """Every label with its features and whether its subscriber is held out."""
    table = project.training_table("churn")
    held = pl.Series("held", [zlib.crc32(key.encode()) % 3 == 0 for key in table["__key"]])
    return table.with_columns(held)


def _features(app: App) -> list[Feature]:
    kinds = app.project.model().input_kinds
    return [
        Feature(name, kind, () if kind == "category" else None) for name, kind in kinds.items() if kind != "instant"
    ]


def _scores(app: App, rows: pl.DataFrame, newest: str, judged: pl.DataFrame) -> Floats:
    """Answers of the project's estimator trained on the two month-ends up to ``newest``."""
    newest_at = _moment(newest)
    known = pl.col("__at").is_between(newest_at - timedelta(days=45), newest_at) & ~pl.col("held")
    train, features = rows.filter(known), _features(app)
    model = app.project.model()
    assert model.build is not None
    estimator = model.build(**{name: each.default for name, each in model.parameters.items()})
    estimator.set_params(histgradientboostingclassifier__random_state=0)
    estimator.fit(model_frame(train, features), train["label"].to_numpy())
    answers: Floats = estimator.predict_proba(model_frame(judged, features))[:, 1]
    return answers


def _judged(rows: pl.DataFrame, day: str) -> tuple[pl.DataFrame, Floats]:
    judged = rows.filter(pl.col("held") & (pl.col("__at") == _moment(day)))
    return judged, judged["label"].to_numpy().astype(float)


def test_a_model_holds_while_nothing_drifts(project: App, rows: pl.DataFrame) -> None:
    judged, y = _judged(rows, STABLE)
    assert 0.10 < y.mean() < 0.25
    assert roc_auc(y, _scores(project, rows, "2024-02-29", judged)) > 0.77


@pytest.mark.parametrize("month_end", [FIRST_DRIFTED, SECOND_DRIFTED])
def test_a_retrained_model_is_truly_better_where_it_drifts(project: App, rows: pl.DataFrame, month_end: str) -> None:
    judged, y = _judged(rows, month_end)
    old, new = _scores(project, rows, "2024-03-31", judged), _scores(project, rows, month_end, judged)
    assert 0.60 < roc_auc(y, old) < 0.77
    gain = paired_bootstrap(roc_auc, y, old, new)
    assert gain.estimate > 0.04
    assert gain.low > 0.01


def test_the_inputs_show_the_drift_and_nothing_before(project: App, rows: pl.DataFrame) -> None:
    numbers = [f.name for f in _features(project) if f.kind == "number"]
    reference = rows.filter(pl.col("__at") <= _moment("2024-02-29"))

    def moved(day: str) -> set[str]:
        now = rows.filter(pl.col("__at") == _moment(day))
        return {name for name in numbers if _psi(reference[name], now[name]) > 0.2}

    assert moved(STABLE) == set()
    assert {"price", "paid", "minutes_30d", "session_minutes"} <= moved(SECOND_DRIFTED)
    assert len(moved(SECOND_DRIFTED)) > 0.2 * len(_features(project))


def test_the_campaign_changes_the_mix_of_regions(rows: pl.DataFrame) -> None:
    def south(day: str) -> float:
        regions = rows.filter(pl.col("__at") == _moment(day))["region"]
        return regions.to_list().count("south") / regions.len()

    assert south(STABLE) < 0.08
    assert south(SECOND_DRIFTED) > south(STABLE) + 0.05


def _psi(reference: pl.Series, now: pl.Series) -> float:
    then, today = (each.drop_nulls().cast(pl.Float64).to_numpy() for each in (reference, now))
    edges = np.unique(np.quantile(then, np.linspace(0, 1, 11)[1:-1]))
    counts = [np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) for each in (then, today)]
    return psi(*counts)
