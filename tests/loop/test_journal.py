"""The journal in the loop: what retention keeps for monitors, what the ledger is told, what an export holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.loop.worlds import SETTINGS, world_in

from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import verify
from ecluse.core.contract import Boolean, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.errors import InvalidInput, NotFound, Unavailable
from ecluse.core.instants import parse_duration
from ecluse.core.loop_settings import Monitoring
from ecluse.core.model import Label, Model
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Retention, Settings
from ecluse.loop.journal import erase_entity, export, keep_since, prune_journal

NOW = datetime(2024, 6, 1, tzinfo=UTC)
USER = Entity("user_id")


@dataclass(frozen=True)
class Still:
    def now(self) -> datetime:
        return NOW

    def advance(self, moment: datetime) -> None:
        raise AssertionError


def record(age_days: float, **more: Any) -> dict[str, Any]:
    at = (NOW - timedelta(days=age_days)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"kind": "prediction", "time": at, "model": "churn", "n": age_days, **more}


def journal_of(home: Path, records: list[dict[str, Any]]) -> JournalArchive:
    with Journal.open(home / "journal", "w1", durability="process", segment_bytes=300) as journal:
        for each in records:
            journal.append(json.dumps(each).encode())
    return JournalArchive(home / "journal")


def world_with(home: Path, archive: JournalArchive) -> World:
    return replace(world_in(home, clock=Still()), read_predictions=archive.read)


def project(horizon: str = "31d") -> Project:
    table = Table("churned", USER, {"churned": Boolean()})
    label = Label("churned", table, "churned", horizon=parse_duration(horizon))
    return Project(
        (table,), (), (label,), (Model("churn", label, (), "roc_auc", request={"hours": Number()}, accepts="features"),)
    )


def limits(days: int, **monitoring: Any) -> Settings:
    return replace(SETTINGS, retention=Retention(journal=timedelta(days=days)), monitoring=Monitoring(**monitoring))


def ages(archive: JournalArchive) -> list[float]:
    return [each["n"] for each in archive.read(None, None, None)]


AGES = [float(each) for each in range(100, 0, -1)]


def test_pruning_tells_the_ledger_signs_the_start_and_leaves_a_whole_journal(tmp_path: Path) -> None:
    archive = journal_of(tmp_path, [record(age) for age in AGES])
    world = world_with(tmp_path, archive)
    would = prune_journal(world, project(), limits(50), archive, True)
    assert ages(archive) == AGES
    gone = prune_journal(world, project(), limits(50), archive, False)
    assert gone == would
    kept = ages(archive)
    assert kept == AGES[-len(kept) :]
    assert 50 <= kept[0] <= 53
    rows = [row.event for row in world.state.ledger() if row.event.kind == "journal.pruned"]
    assert [each.evidence["records"] for each in rows] == [100 - len(kept)]
    assert verify(archive.root, trusted=[world.sealer.public_key]) == []
    assert prune_journal(world, project(), limits(50), archive, False) == []


@pytest.mark.parametrize(
    ("settings", "horizon", "kept_days"),
    [
        (limits(50), "31d", 50),
        (limits(10), "31d", 31),
        (limits(10, period=timedelta(days=30)), "31d", 61),
        (limits(10, last=80), "5d", 80),
        (limits(10, last=1_000), "5d", 100),
    ],
)
def test_what_a_monitor_reads_is_kept_whatever_the_setting(
    tmp_path: Path, settings: Settings, horizon: str, kept_days: int
) -> None:
    archive = journal_of(tmp_path, [record(age) for age in AGES])
    world = world_with(tmp_path, archive)
    assert keep_since(world, project(horizon), settings) == NOW - timedelta(days=kept_days)


def test_the_last_predictions_are_those_of_the_model(tmp_path: Path) -> None:
    others = [record(age, model="other") for age in range(9, 0, -1)]
    archive = journal_of(tmp_path, [record(age) for age in AGES[:90]] + others)
    world = world_with(tmp_path, archive)
    assert keep_since(world, project("0d"), limits(5, last=10)) == NOW - timedelta(days=20)


def test_an_erasure_names_records_and_reason_but_not_the_entity(tmp_path: Path) -> None:
    records = [record(age, entity=f"person-{age:.0f}", request_id=f"r{age:.0f}") for age in (3, 2, 1)]
    archive = journal_of(tmp_path, [*records, record(0, kind="outcome", entity=None, request_id="r2")])
    world = world_with(tmp_path, archive)
    places = erase_entity(world, archive, "person-2", reason="asked for")
    assert places == {"w1": [2, 4]}
    assert ages(archive) == [3, 1]
    (event,) = [row.event for row in world.state.ledger() if row.event.kind == "journal.erased"]
    assert event.evidence == {"records": {"w1": [[2, 2], [4, 4]]}}
    assert event.reason == "asked for"
    assert "person-2" not in (tmp_path / "state.db").read_bytes().decode(errors="replace")
    with pytest.raises(NotFound):
        erase_entity(world, archive, "person-2", reason="again")


def test_an_export_holds_every_field(tmp_path: Path) -> None:
    prediction = record(
        2,
        id="w1-a-1",
        version=3,
        score=0.25,
        threshold=None,
        decision=True,
        inputs={"ä": 1.5},
        unseen=[],
        as_of="2024-05-01T00:00:00Z",
    )
    outcome = record(1, kind="outcome", value="Gold", entity="u1", at=None)
    lines, table = tmp_path / "new" / "all.jsonl", tmp_path / "all.parquet"
    assert export([prediction, outcome], lines) == 2
    assert [json.loads(each) for each in lines.read_text().splitlines()] == [prediction, outcome]
    assert export(iter([prediction, outcome]), table) == 2
    first, second = pl.read_parquet(table).to_dicts()
    assert first["time"] == NOW - timedelta(days=2)
    assert first["as_of"] == datetime(2024, 5, 1, tzinfo=UTC)
    assert (first["version"], first["score"], first["decision"], first["unseen"]) == (3, 0.25, "true", "[]")
    assert json.loads(first["inputs"]) == {"ä": 1.5}
    assert (second["value"], second["entity"], second["score"], second["inputs"]) == ('"Gold"', "u1", None, None)


def test_an_empty_export_has_its_columns(tmp_path: Path) -> None:
    assert export([], tmp_path / "none.parquet") == 0
    assert {"time", "score", "inputs"} <= set(pl.read_parquet(tmp_path / "none.parquet").columns)
    assert export([], tmp_path / "none.jsonl") == 0


def test_an_export_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="jsonl"):
        export([], tmp_path / "all.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        export([], tmp_path / "file" / "all.jsonl")
    with pytest.raises(InvalidInput):
        export([record(1, as_of="never")], tmp_path / "all.parquet")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
