"""Monitor and outcomes over real files: a sealed bundle with its reference, a journal, label tables, the ledger."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.loop.worlds import fact, report_of, run_of, world_in
from tests.monitoring.records import KINDS, population, prediction, predictions

from ecluse.adapters.clock import project_clock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.bundle import make_bundle
from ecluse.core.codec import canonical, digest
from ecluse.core.contract import Boolean, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.errors import Corrupt, InvalidInput, NotFound
from ecluse.core.event import LedgerRow
from ecluse.core.loop_settings import Monitoring
from ecluse.core.model import Label, Model
from ecluse.core.ports import World
from ecluse.core.project import Project, gather
from ecluse.core.recipe import Split
from ecluse.core.settings import Settings, Time
from ecluse.core.verdict import Outcome
from ecluse.core.view import FeatureView, last
from ecluse.loop.ingest import ingest
from ecluse.loop.monitor import MonitorReport, monitor
from ecluse.loop.outcomes import outcomes
from ecluse.loop.promote import promote
from ecluse.loop.register import register
from ecluse.loop.stretch import look
from ecluse.loop.triggers import Story, tell
from ecluse.stats.reference import describe

USER = Entity("user_id")
LABELS = Table("labels", USER, {"left": Boolean()})
USAGE = Table("usage", USER, {"hours": Number(nulls=1.0)})
CHURN = Model(
    "churn",
    Label("churned", LABELS, "left"),
    (FeatureView("use", USAGE, {"hours": last("hours")}),),
    "roc_auc",
)
PROJECT: Project = gather([CHURN])
SETTINGS = Settings(project="water", time=Time("data"), monitoring=Monitoring(min_samples=200, min_outcomes=200))
JANUARY, FEBRUARY = datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)
Judge = Callable[..., MonitorReport]


@dataclass(frozen=True)
class Served:
    """A project with version 1 in Production and a journal to write to."""

    world: World
    home: Path

    def write(self, records: list[dict[str, Any]], worker: str = "w1") -> None:
        with Journal.open(self.home / "journal", worker, durability="process") as journal:
            journal.append_many([msgspec.json.encode(record) for record in records])

    def traffic(self, rows: int, *, at: str = "2024-01-31", seed: int = 1, **moved: Any) -> list[dict[str, Any]]:
        columns = population(rows, seed, **moved)
        text = f"{at}T00:00:00.000000Z"
        records = predictions(columns, _scores(columns), time=text, as_of=text)
        self.write(records)
        return records

    def monitor(self, settings: Settings = SETTINGS, **more: Any) -> MonitorReport:
        return monitor(self.world, settings, "churn", actor="ana", **more)

    def told(self, kind: str) -> list[LedgerRow]:
        return [row for row in self.world.state.ledger() if row.event.kind == kind]


def _scores(columns: dict[str, list[Any]]) -> list[float]:
    return [float(1 / (1 + np.exp((20 if hours is None else hours) / 8 - 2.5))) for hours in columns["hours"]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    home = tmp_path / "state"
    home.mkdir()
    state = SqliteState(home / "state.db")
    world = replace(
        world_in(home, state=state),
        clock=project_clock("data", state),
        snapshots=SnapshotsFiles(home / "snapshots"),
        read_predictions=JournalArchive(home / "journal").read,
    )
    world.clock.advance(JANUARY)
    columns = population(7_000, 0)
    reference = describe(columns, KINDS, _scores(columns), [i % 4 == 0 for i in range(7_000)])
    files = {"model.onnx": b"m", "reference.json": canonical(reference), "declaration.json": canonical(CHURN)}
    bundle = make_bundle(
        model="churn", scorer="onnx", recipe=digest("r"), dataset=digest("d"), split=Split("entity", 0.25), files=files
    )
    world.bundles.put(bundle, world.sealer.sign(bundle.digest))
    state.add_run(run_of("run1", bundle.digest), fact("run.finished"))
    version = register(world, SETTINGS, "run1", reason="trained", actor="ana")
    report = report_of(version, None, made=JANUARY)
    state.add_report(report, fact("version.gated", report=digest(report)))
    promote(world, SETTINGS, "churn", 1, reason="first", actor="ana")
    yield Served(world, home)
    state.close()


def test_calm_traffic_is_judged_and_told(served: Served) -> None:
    served.traffic(1_000)
    report = served.monitor()
    assert report.verdict.passed
    assert (report.version, report.window.rows, report.event, report.drifted) == (1, 1_000, None, ())
    [judged] = served.told("monitor.judged")
    assert judged.event.evidence["window"]["rows"] == 1_000
    assert not served.told("drift.detected")
    beside = json.loads(served.world.bundles.read_beside(served.world.state.version("churn", 1).bundle, report.report))
    assert beside["window"]["rows"] == 1_000
    assert set(beside["shifts"]) == set(KINDS)


def test_the_newest_reports_of_a_version_are_kept(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecluse.loop.monitor.REPORTS", 2)
    names = []
    for seed in range(3):
        served.traffic(10, seed=seed)
        names.append(served.monitor().report)
    bundle = served.world.state.version("churn", 1).bundle
    for name in names[1:]:
        assert served.world.bundles.read_beside(bundle, name)
    with pytest.raises(NotFound):
        served.world.bundles.read_beside(bundle, names[0])
    assert len(served.told("monitor.judged")) == 3


def test_windows_that_share_predictions_are_one_breach_to_hysteresis(served: Served) -> None:
    streaks = []
    for seed, (rows, day) in enumerate([(300, "2024-01-31"), (100, "2024-02-01"), (400, "2024-02-02")], 2):
        served.traffic(rows, at=day, seed=seed, shift=1.0)
        assert served.monitor(last=300).verdict.breached
        streaks.append(tell(Story(), served.world.state.ledger()).of("churn").streak)
    assert streaks == [1, 1, 2]


def test_a_breach_is_one_event_a_window(served: Served) -> None:
    served.traffic(1_000, shift=1.0)
    first, second = served.monitor(), served.monitor()
    assert first.verdict.breached
    assert first.event == second.event
    [drift] = served.told("drift.detected")
    assert drift.sequence == first.event
    evidence = drift.event.evidence
    assert evidence["inputs"]["hours"]["psi"] > 0.2
    assert {f["check"] for f in evidence["findings"]} == {"drift_share", "prediction_psi"}
    assert (evidence["window"]["first"], drift.event.version) == ("2024-01-31T00:00:00.000000Z", 1)
    assert "hours" in drift.event.reason
    served.traffic(500, seed=2, shift=1.0)
    assert served.monitor().event != first.event, "a new window is a new drift"


def test_windows_by_number_and_by_period(served: Served) -> None:
    served.traffic(2_000)
    served.world.clock.advance(FEBRUARY)
    served.traffic(400, at="2024-02-29", seed=3, shift=1.0)
    assert served.monitor().drifted == (), "a sixth of the whole window is diluted"
    assert served.monitor(last=400).drifted == ("hours",)
    assert served.monitor(period=timedelta(days=1)).window.rows == 400
    by_settings = replace(SETTINGS, monitoring=replace(SETTINGS.monitoring, last=300))
    assert served.monitor(by_settings).window.rows == 300
    with pytest.raises(InvalidInput):
        served.monitor(last=10, period=timedelta(days=1))
    with pytest.raises(InvalidInput):
        served.monitor(last=0)


def test_the_last_predictions_are_counted_by_model(served: Served) -> None:
    served.traffic(300)
    served.write([prediction(i, model="other", version=9) for i in range(700)], worker="w2")
    report = served.monitor(last=250)
    assert (report.window.rows, report.window.versions) == (250, {1: 250})
    assert served.monitor(last=5_000).window.rows == 300


def test_too_few_predictions_are_no_breach(served: Served) -> None:
    served.traffic(20, shift=3.0)
    report = served.monitor()
    assert not report.verdict.breached
    assert report.verdict.findings[0].outcome is Outcome.INCONCLUSIVE


def test_nothing_served_is_inconclusive_with_a_champion_and_not_found_without(served: Served) -> None:
    assert served.monitor().window.rows == 0
    with pytest.raises(NotFound, match="has not served"):
        monitor(served.world, SETTINGS, "nobody", actor="ana")


def _label(served: Served, tmp_path: Path, lines: list[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("\n".join(["user_id,left", *lines]) + "\n")
    ingest(served.world, PROJECT, SETTINGS, folder, JANUARY, actor="ana", only=("labels",))


def test_outcomes_join_label_tables_and_reports_of_callers(served: Served, tmp_path: Path) -> None:
    served.traffic(400)
    _label(served, tmp_path, [f"u{i},{'true' if i % 2 else 'false'}" for i in range(300)])
    told = {"kind": "outcome", "time": "2024-01-31T00:00:00.000000Z", "model": "churn", "entity": None, "at": None}
    served.write([told | {"request_id": f"r-{i}", "value": True, "extra": {}} for i in range(290, 350)])
    report = outcomes(served.world, PROJECT, SETTINGS, "churn")
    assert (report.versions[1].joined, report.versions[1].waiting) == (350, 50)
    assert 0.4 < report.versions[1].metrics["roc_auc"] < 0.6
    assert report.verdict.findings == ()


def test_performance_below_its_floor_and_a_moved_target_are_a_breach(served: Served, tmp_path: Path) -> None:
    served.traffic(400)
    _label(served, tmp_path, [f"u{i},{'true' if i % 2 else 'false'}" for i in range(400)])
    limits = replace(SETTINGS.monitoring, performance={"roc_auc": 0.75})
    settings = replace(SETTINGS, monitoring=limits)
    report = served.monitor(settings)
    assert [f.check for f in report.verdict.failed] == ["target_shift", "performance"]
    assert report.performance.joined == 400
    assert served.told("drift.detected")
    assert outcomes(served.world, PROJECT, settings, "churn").verdict.breached


def test_a_floor_within_the_luck_of_the_truths_sets_nothing_off(served: Served, tmp_path: Path) -> None:
    served.traffic(400)
    _label(served, tmp_path, [f"u{i},{'true' if i % 2 else 'false'}" for i in range(400)])
    calm = replace(SETTINGS.monitoring, target_shift=0.0)
    auc = served.monitor(replace(SETTINGS, monitoring=calm)).performance.metrics["roc_auc"]
    near, far = (replace(SETTINGS, monitoring=replace(calm, performance={"roc_auc": auc + by})) for by in (0.01, 0.2))
    report = served.monitor(near)
    assert [f.outcome for f in report.verdict.findings if f.check == "performance"] == [Outcome.INCONCLUSIVE]
    assert (report.event, served.told("drift.detected")) == (None, [])
    low, high = report.performance.intervals["roc_auc"]
    assert low < auc < auc + 0.01 < high
    assert not outcomes(served.world, PROJECT, near, "churn").verdict.breached
    assert served.monitor(far).event is not None, "the same truths, and a floor they all lie below"


def test_one_limit_missed_of_several_is_told_as_a_check_that_failed(served: Served, tmp_path: Path) -> None:
    served.traffic(400)
    _label(served, tmp_path, [f"u{i},{'true' if i % 2 else 'false'}" for i in range(400)])
    limits = replace(SETTINGS.monitoring, performance={"roc_auc": 0.75, "log_loss": 99.0})
    report = served.monitor(replace(SETTINGS, monitoring=limits))
    assert [f.passed for f in report.verdict.findings if f.check == "performance"] == [False, True]
    [judged] = served.told("monitor.judged")
    assert judged.event.evidence["outcomes"]["performance"] == "failed"


def test_outcomes_before_any_prediction(served: Served) -> None:
    report = outcomes(served.world, PROJECT, SETTINGS, "churn")
    assert (report.versions, report.verdict.findings) == ({}, ())


def test_a_window_of_a_model_that_is_hardly_asked_holds_nothing_of_the_others(served: Served) -> None:
    served.write([prediction(i, model="other") for i in range(2_000)])
    served.traffic(100)
    outcome = {"kind": "outcome", "time": "2024-01-31T00:00:00.000000Z", "model": "churn"}
    served.write([outcome | {"id": f"o{i}"} for i in range(30)])
    served.write([prediction(i, model="other") for i in range(2_000)])
    for rows, kinds in ((50, ["prediction"] * 50 + ["outcome"] * 30), (500, ["prediction"] * 100 + ["outcome"] * 30)):
        stretch = look(served.world, SETTINGS, "churn", rows, None)
        assert [each["kind"] for each in stretch.records] == kinds
        assert {each["model"] for each in stretch.records} == {"churn"}
        assert len(stretch.asked) == min(rows, 100)


def test_a_long_journal_is_judged_by_its_segments_alike(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = served.home / "journal"
    for seed in range(4):  # closed segments, and one that is still written
        columns = population(600, seed, shift=0.2 * seed)
        records = predictions(columns, _scores(columns), time=f"2024-01-0{seed + 1}T00:00:00.000000Z")
        with Journal.open(directory, "w1", durability="process", segment_bytes=100_000) as journal:
            for record in records:
                journal.append(msgspec.json.encode(record))
    archive = JournalArchive(directory)
    assert len(archive.segments()) > 4
    plain = served.monitor()
    monkeypatch.setattr("ecluse.loop.stretch.LONG_BYTES", 1)
    monkeypatch.setattr("ecluse.loop.panes.SHARED_BYTES", 1)
    long = replace(served, world=replace(served.world, segments=archive.segments))
    for _ in range(2):  # counted by two processes, then remembered
        fast = long.monitor()
        assert fast.verdict == plain.verdict
        assert fast.window == plain.window
        assert fast.bars == plain.bars
        for name, each in plain.shifts.items():
            assert fast.shifts[name].effects == pytest.approx(each.effects, rel=1e-9)
    kept = list((served.home / "cache" / "monitor").glob("*.json"))
    assert len(kept) == len(archive.segments()) - 1
    period = timedelta(days=29, hours=1)  # cuts a segment: it is counted row by row
    assert long.monitor(period=period).window == served.monitor(period=period).window


def test_an_erased_record_is_counted_no_more(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(2):
        served.traffic(300, seed=seed)
    directory = served.home / "journal"
    with Journal.open(directory, "w1", durability="process", segment_bytes=1) as journal:
        journal.append(msgspec.json.encode(prediction(999)))  # closes the segment
    archive = JournalArchive(directory)
    monkeypatch.setattr("ecluse.loop.stretch.LONG_BYTES", 1)
    long = replace(served, world=replace(served.world, segments=archive.segments))
    assert long.monitor().window.rows == 601
    archive.erase(archive.naming("u7"))
    assert long.monitor().window.rows == 599


def test_a_damaged_segment_is_read_record_by_record_and_located(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.traffic(300)
    archive = JournalArchive(served.home / "journal")
    path = Path(archive.segments()[0].path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr("ecluse.loop.stretch.LONG_BYTES", 1)
    with pytest.raises(Corrupt, match="journal record"):
        replace(served, world=replace(served.world, segments=archive.segments)).monitor()


def test_a_slow_rise_is_a_trend_before_any_window_is_a_breach(served: Served) -> None:
    limits = replace(SETTINGS.monitoring, last=2_000, drift_share=0.5)
    settings = replace(SETTINGS, monitoring=limits)
    breached = []
    for month in range(1, 9):
        served.traffic(2_000, at=f"2024-01-{2 + month:02d}", seed=month, shift=0.045 * month)
        report = served.monitor(settings)
        assert all(f.check == "trend" for f in report.verdict.failed), report.verdict.failed
        breached += [month] if report.verdict.breached else []
        assert len(report.windows) == month
    assert breached, "scores that move a little each window are a trend"
    assert served.monitor(settings).verdict.breached, "the same window has the same verdict"
    assert served.told("drift.detected")
