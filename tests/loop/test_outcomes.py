"""Outcomes over real files: truths by table and by report, settled once; parts with intervals; estimates; what is on record; what decides."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from tests.conftest import ROOT
from tests.loop.worlds import fact, report_of, run_of, world_in
from tests.monitoring.records import prediction

from ecluse.adapters.clock import project_clock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.bundle import make_bundle
from ecluse.core.codec import canonical, digest
from ecluse.core.contract import Boolean, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.loop_settings import Monitoring, Policy
from ecluse.core.model import Label, Model
from ecluse.core.ports import World
from ecluse.core.project import Project, gather
from ecluse.core.recipe import Split, held_position
from ecluse.core.settings import Gates, Settings, Time
from ecluse.core.verdict import Outcome
from ecluse.core.view import FeatureView, last
from ecluse.loop.decide import Facts, decide
from ecluse.loop.ingest import ingest
from ecluse.loop.outcomes import OutcomesReport, outcomes, quarantine
from ecluse.loop.promote import promote
from ecluse.loop.register import register

USER = Entity("user_id")
LABELS = Table("labels", USER, {"left": Boolean()})
USAGE = Table("usage", USER, {"hours": Number(nulls=1.0)})
LABEL = Label("churned", LABELS, "left", horizon="30d", known_after="5d")  # type: ignore[arg-type]
CHURN = Model("churn", LABEL, (FeatureView("use", USAGE, {"hours": last("hours")}),), "roc_auc")
PROJECT: Project = gather([CHURN])
LIMITS = Monitoring(min_samples=100, min_outcomes=100, estimate_rows=500, performance={"roc_auc": 0.6})
SETTINGS = Settings(
    project="water", time=Time("data"), monitoring=LIMITS, gates=Gates(segments=("plan",), segment_rows=50)
)
MONTHS = [datetime(2024, month, 28, tzinfo=UTC) for month in range(1, 7)]
HELD = [f"u{i}" for i in range(4_000) if held_position(f"u{i}") < 0.25]


@dataclass(frozen=True)
class Town:
    """A project with version 1 in Production, its validation scores beside the bundle, and a journal."""

    world: World
    home: Path

    def write(self, records: list[dict[str, Any]]) -> None:
        with Journal.open(self.home / "journal", "w1", durability="process") as journal:
            journal.append_many([msgspec.json.encode(record) for record in records])

    def asked(self, month: int, rows: int = 600, **more: Any) -> np.ndarray:
        """Answers about people not trained on, at a month's end; returns their scores."""
        scores = np.random.default_rng(month).beta(1.5, 3.0, rows)
        text = format_instant(MONTHS[month])
        self.write(
            [
                prediction(
                    i,
                    entity=HELD[i],
                    request_id=f"m{month}-{i}",
                    score=float(score),
                    time=text,
                    as_of=text,
                    arm="champion" if i % 3 else "challenger",
                    inputs={"plan": "Gold" if i % 2 else "Basic"},
                    **more,
                )
                for i, score in enumerate(scores)
            ]
        )
        return scores

    def report(self, month: int, value: Any, *who: int, told: datetime, **more: Any) -> None:
        """Truths told by request."""
        base: dict[str, Any] = {
            "kind": "outcome",
            "time": format_instant(told),
            "model": "churn",
            "entity": None,
            "at": None,
            "extra": {},
        }
        self.write([base | {"request_id": f"m{month}-{i}", "value": value} | more for i in who])

    def label(self, folder: Path, month: int, truths: np.ndarray, known: datetime) -> None:
        """The month's labels by table."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = {"user_id": HELD[: len(truths)], "left": truths, "at": [MONTHS[month]] * len(truths)}
        pl.DataFrame(rows).select("user_id", "left").write_csv(folder / "labels.csv")
        ingest(self.world, PROJECT, SETTINGS, folder, MONTHS[month], actor="ana", only=("labels",))
        self.world.clock.advance(known)

    def outcomes(self, settings: Settings = SETTINGS) -> OutcomesReport:
        return outcomes(self.world, PROJECT, settings, "churn")

    def told(self) -> list[Event]:
        return [row.event for row in self.world.state.ledger() if row.event.kind == "outcomes.settled"]


def truths_of(scores: np.ndarray, seed: int) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(seed).random(len(scores)) < scores
    return found


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    home = tmp_path / "state"
    home.mkdir()
    state = SqliteState(home / "state.db")
    world = replace(
        world_in(home, state=state),
        clock=project_clock("data", state),
        snapshots=SnapshotsFiles(home / "snapshots"),
        read_predictions=JournalArchive(home / "journal").read,
    )
    world.clock.advance(MONTHS[0])
    split = Split("entity", 0.25, last_moment=MONTHS[0])
    files = {"model.onnx": b"m", "declaration.json": canonical(CHURN)}
    bundle = make_bundle(
        model="churn", scorer="onnx", recipe=digest("r"), dataset=digest("d"), split=split, files=files
    )
    world.bundles.put(bundle, world.sealer.sign(bundle.digest))
    scores = np.random.default_rng(99).beta(1.5, 3.0, 1_500)
    out = io.BytesIO()
    pl.DataFrame({"y": truths_of(scores, 98).astype(float), "__prediction:0": scores}).write_parquet(out)
    world.bundles.write_beside(bundle.digest, "held_out.parquet", out.getvalue())
    state.add_run(run_of("run1", bundle.digest), fact("run.finished"))
    version = register(world, SETTINGS, "run1", reason="trained", actor="ana")
    report = report_of(version, None, made=MONTHS[0])
    state.add_report(report, fact("version.gated", report=digest(report)))
    promote(world, SETTINGS, "churn", 1, reason="first", actor="ana")
    yield Town(world, home)
    state.close()


def test_truths_are_used_once_they_are_mature(town: Town, tmp_path: Path) -> None:
    scores = town.asked(0)
    town.label(tmp_path / "data", 0, truths_of(scores, 1), MONTHS[1])
    town.report(0, True, 1, 2, told=MONTHS[0])
    early = town.outcomes()
    assert (early.versions[1].joined, early.versions[1].waiting) == (0, 600)
    assert early.counts.early + early.counts.duplicates + early.counts.conflicts == early.counts.told == 602
    town.world.clock.advance(MONTHS[0] + timedelta(days=35))
    found = town.outcomes()
    assert (found.versions[1].joined, found.counts.used, found.counts.early) == (600, 600, 0)
    assert 0.6 < found.versions[1].metrics["roc_auc"] < 0.8
    low, high = found.versions[1].intervals["roc_auc"]
    assert low < found.versions[1].metrics["roc_auc"] < high
    assert set(found.versions[1].intervals) == {"roc_auc"}


def test_reports_overrule_the_table_and_everything_else_is_held(town: Town, tmp_path: Path) -> None:
    scores = town.asked(0)
    truths = truths_of(scores, 1)
    town.label(tmp_path / "data", 0, truths, MONTHS[2])
    wrong = [i for i in range(600) if not truths[i]][:20]
    town.report(0, True, *wrong, told=MONTHS[2])
    town.report(0, True, *wrong[:5], told=MONTHS[2])
    town.report(0, False, wrong[0], told=MONTHS[2], known_at="2024-02-01T00:00:00Z")
    town.report(0, True, 9_999, told=MONTHS[2])
    town.report(0, True, 7, told=MONTHS[3])
    found = town.outcomes()
    names = ("told", "used", "duplicates", "conflicts", "orphans", "early", "future")
    assert [getattr(found.counts, name) for name in names] == [628, 600, 5, 21, 1, 0, 1]
    held = quarantine(town.world, PROJECT, "churn")
    assert held.counts == found.counts
    assert sorted({each.reason for each in held.quarantine}) == ["conflict", "duplicate", "future", "orphan"]
    [event] = town.told()
    assert event.evidence["counts"]["conflicts"] == 21
    assert event.reason == "628 truths told, 600 used, 20 late, 5 duplicates, 21 conflicts, 1 orphans, 1 future"
    town.outcomes()
    assert len(town.told()) == 1, "looked at twice it is one fact"
    town.world.clock.advance(MONTHS[3])
    town.outcomes()
    assert len(town.told()) == 2


def test_arms_and_segments_have_their_own_numbers(town: Town, tmp_path: Path) -> None:
    scores = town.asked(0)
    town.label(tmp_path / "data", 0, truths_of(scores, 1), MONTHS[2])
    found = town.outcomes()
    parts = {each.segment or each.arm: each.realised for each in found.parts}
    assert {name: each.joined for name, each in parts.items()} == {
        "challenger": 200,
        "champion": 400,
        "plan=Basic": 300,
        "plan=Gold": 300,
    }
    assert all("roc_auc" in each.intervals for each in parts.values())
    whole, part = found.versions[1].intervals["roc_auc"], parts["challenger"].intervals["roc_auc"]
    assert part[1] - part[0] > whole[1] - whole[0], "fewer rows, wider interval"


def test_what_is_not_known_yet_is_estimated_and_checked(town: Town, tmp_path: Path) -> None:
    first = town.asked(1, rows=560)
    unchecked = town.outcomes()
    assert unchecked.estimated[1].rows == 560
    assert [f.outcome for f in unchecked.estimates.findings] == [Outcome.INCONCLUSIVE]
    town.label(tmp_path / "data", 1, truths_of(first, 1), MONTHS[3])
    town.asked(3)
    found = town.outcomes().estimated[1]
    assert (found.rows, len(found.windows), found.knows, found.checked) == (600, 1, True, True)
    assert found.windows[0].rows == 560, "a rest that is too small goes with the last window"
    assert found.worst["roc_auc"] < 0.06
    assert 0.6 < found.metrics["roc_auc"] < 0.8
    assert town.outcomes().estimates.passed
    off = replace(SETTINGS, monitoring=replace(LIMITS, estimate_rows=0))
    assert town.outcomes(off).estimated == {}


def test_it_cannot_know_once_scores_mean_something_else(town: Town, tmp_path: Path) -> None:
    first = town.asked(1)
    town.label(tmp_path / "data", 1, truths_of(1 - first, 1), MONTHS[3])
    town.asked(3)
    report = town.outcomes()
    found = report.estimated[1]
    assert (found.knows, dict(found.metrics)) == (False, {})
    assert found.why.startswith("cannot know: on the newest matured window, up to 2024-02-28T00:00:00Z, ")
    assert [f.outcome for f in report.estimates.findings] == [Outcome.INCONCLUSIVE]
    assert report.verdict.breached, "what is realised is judged all the same"


def test_an_estimate_decides_nothing(town: Town) -> None:
    """A failed or passed estimate is in no verdict that leads anywhere, and no code that decides reads one."""
    town.asked(1)
    limits = replace(LIMITS, performance={"roc_auc": 0.99})
    report = town.outcomes(replace(SETTINGS, monitoring=limits))
    assert not report.verdict.failed
    event = Event("outcomes.settled", MONTHS[3], "ana", "churn", 1, evidence={"estimated": {"1": {"roc_auc": 0.99}}})
    for promotion in ("manual", "automatic"):
        assert decide(event, Facts(sequence=7, champion=1), Policy(promotion=promotion)) == ()
    source = ROOT / "src" / "ecluse"
    readers = {
        p.relative_to(source).as_posix() for p in source.rglob("*.py") if "monitoring.estimated" in p.read_text()
    }
    assert readers == {"loop/estimates.py", "loop/outcomes.py"}
    users = {p.relative_to(source).as_posix() for p in source.rglob("*.py") if "OutcomesReport" in p.read_text()}
    assert users == {"loop/outcomes.py", "loop/settle.py", "app.py", "cli/outcomes.py"}
    assert "estimate" not in (source / "loop" / "settle.py").read_text(), "what follows does so from what is realised"


def test_nothing_told_and_nothing_asked(town: Town) -> None:
    report = town.outcomes()
    assert (report.versions, report.parts, report.estimated, report.verdict.findings) == ({}, (), {}, ())
    assert astuple(report.counts) == (0,) * 8
    assert town.told() == []
