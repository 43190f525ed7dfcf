"""Ingest over real files, state and store: all or nothing, idempotent, corrected, and the reference tables."""

import fcntl
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from tests.loop.worlds import world_in
from tests.streamflow import MONTHS, PROJECT, month_folder

from ecluse.adapters.clock import project_clock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.project_files import load_project, load_settings
from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.codec import canonical
from ecluse.core.contract import Boolean, Category, Instant, Integer, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.errors import Conflict, InvalidInput, NotFound
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings, Time
from ecluse.data.frame import KEY, KNOWN, schema_of
from ecluse.data.read import read_rows
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.ingest import IngestResult, ingest

JANUARY, FEBRUARY = datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)
USER = Entity("user_id")
USERS = Table("users", USER, {"plan": Category(("Basic", "Gold"))})
USAGE = Table("usage", USER, {"hours": Number(min=0), "tenure": Integer(min=0)}, references=("users",), quarantine=0.34)
VISITS = Table("visits", USER, {"at": Instant(), "bought": Boolean(nulls=0.9)}, event_time="at")
WATER = Project((USAGE, USERS, VISITS), (), (), ())
ON_DATA = Settings(project="water", time=Time("data"))


def world(home: Path, now: Literal["data", "system"] = "data") -> World:
    made = world_in(home)
    state = SqliteState(home / "state.db")
    return replace(made, state=state, clock=project_clock(now, state), snapshots=SnapshotsFiles(home / "snapshots"))


def put(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def good(folder: Path) -> Path:
    return put(
        folder,
        users="user_id,plan\na,Basic\nb,Gold\n",
        usage="user_id,hours,tenure\na,1.5,3\nb,2,4\n",
        visits="user_id,at,bought\na,2024-01-02T10:00:00Z,true\nb,2024-01-05,\n",
    )


def run(to: World, folder: Path, as_of: datetime = JANUARY, settings: Settings = ON_DATA, **more: Any) -> IngestResult:
    return ingest(to, WATER, settings, folder, as_of, actor="ana", **more)


def statuses(result: IngestResult) -> dict[str, str]:
    return {table.table: table.status for table in result.tables}


def facts(of: World) -> list[Event]:
    return [row.event for row in of.state.ledger()]


def files(of: World) -> set[Path]:
    return set((of.home / "snapshots").rglob("*.parquet"))


def test_good_files_become_snapshots(tmp_path: Path) -> None:
    to = world(tmp_path / "home")
    result = run(to, good(tmp_path / "in"))
    assert result.passed
    assert statuses(result) == dict.fromkeys(("usage", "users", "visits"), "ingested")
    assert [event.kind for event in facts(to)] == ["data.ingested"] * 3
    assert {event.evidence["table"]: event.evidence["rows"] for event in facts(to)} == dict.fromkeys(
        statuses(result), 2
    )
    assert to.clock.now() == JANUARY
    past = histories(to, WATER.tables, current_dataset(to, WATER.tables, JANUARY))
    assert {name: frame.schema for name, frame in past.items()} == {t.name: schema_of(t) for t in WATER.tables}
    assert past["visits"]["bought"].to_list() == [True, None]
    assert canonical(result)  # what --json prints


def test_the_same_data_again_is_already_known(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    first = run(to, folder)
    before = (files(to), facts(to), to.state.generation())
    again = run(to, folder)
    assert set(statuses(again).values()) == {"already known"}
    assert [table.snapshot for table in again.tables] == [table.snapshot for table in first.tables]
    read_rows(folder / "users.csv", USERS).reverse().write_parquet(folder / "users.parquet")
    (folder / "users.csv").unlink()
    assert set(statuses(run(to, folder)).values()) == {"already known"}
    assert (files(to), facts(to), to.state.generation()) == before


def test_a_correction_is_a_snapshot_of_its_own_and_so_is_its_undoing(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    text = (folder / "visits.csv").read_text()
    run(to, folder)
    to.clock.advance(FEBRUARY)
    put(folder, visits=text.replace("true", "false"))
    assert statuses(run(to, folder))["visits"] == "ingested"
    known = histories(to, [VISITS], current_dataset(to, [VISITS], FEBRUARY))["visits"]
    assert known.filter(pl.col(KEY) == "a").select(KNOWN, "bought").rows() == [(JANUARY, True), (FEBRUARY, False)]
    put(folder, visits=text)
    assert statuses(run(to, folder))["visits"] == "ingested"
    assert statuses(run(to, folder))["visits"] == "already known"
    known = histories(to, [VISITS], current_dataset(to, [VISITS], FEBRUARY))["visits"]
    assert known.filter(pl.col(KEY) == "a")["bought"].to_list() == [True, False, True]
    assert to.clock.now() == FEBRUARY  # an older as-of does not turn the clock back


def test_one_refusal_stops_every_table_before_anything_is_changed(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    put(folder, usage="user_id,hours\na,1\n")
    result = run(to, folder)
    assert not result.passed
    assert statuses(result) == {"usage": "refused", "users": "not taken", "visits": "not taken"}
    (fact,) = facts(to)
    assert (fact.kind, fact.actor) == ("data.refused", "ana")
    assert "column tenure is missing" in fact.reason
    assert files(to) == set()
    assert to.state.snapshots() == ()
    with pytest.raises(NotFound):
        to.clock.now()


def test_bad_rows_are_kept_apart_with_their_reasons(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    put(folder, usage="user_id,hours,tenure\na,1,1\nb,1,-1\nb,2,1\n")
    result = run(to, folder)
    (usage,) = [table for table in result.tables if table.table == "usage"]
    assert (usage.status, usage.rows, usage.quarantined) == ("ingested", 2, 1)
    assert usage.counts == {"tenure: below 0": 1}
    assert usage.snapshot is not None
    (bad,) = to.snapshots.quarantined(usage.snapshot).to_dicts()
    assert (bad["__row"], bad["tenure"], bad["__reasons"]) == (2, "-1", ["tenure: below 0"])
    assert next(e for e in facts(to) if e.evidence["table"] == "usage").evidence["counts"] == {"tenure: below 0": 1}


def test_references_hold_against_earlier_ingests_and_this_one(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    usage = "user_id,hours,tenure\na,1,1\nb,1,1\nc,1,1\n"
    put(folder, usage=usage)
    result = run(to, folder)
    assert {t.table: t.counts for t in result.tables}["usage"] == {"user_id: unknown in users": 1}
    later = put(tmp_path / "later", users="user_id,plan\nc,Gold\n", usage=usage)
    assert {t.table: t.quarantined for t in run(to, later, FEBRUARY).tables} == {"users": 0, "usage": 0}
    alone = put(tmp_path / "alone", usage="user_id,hours,tenure\nc,1,2\n")
    assert run(to, alone, FEBRUARY).passed


def test_a_row_in_quarantine_is_nothing_to_refer_to(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    project = replace(WATER, tables=(USAGE, replace(USERS, quarantine=0.5), VISITS))
    put(folder, users="user_id,plan\na,Basic\nb,Platinum\n")
    result = ingest(to, project, ON_DATA, folder, JANUARY, actor="ana")
    assert {t.table: t.counts for t in result.tables}["usage"] == {"user_id: unknown in users": 1}


def test_tables_that_refer_to_each_other(tmp_path: Path) -> None:
    users = replace(USERS, references=("usage",))
    project = Project((USAGE, users), (), (), ())
    assert ingest(world(tmp_path / "home"), project, ON_DATA, good(tmp_path / "in"), JANUARY, actor="ana").passed


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    assert set(statuses(run(to, folder, dry_run=True)).values()) == {"would be ingested"}
    put(folder, users="user_id,plan\n")
    result = run(to, folder, dry_run=True)
    assert (result.passed, result.dry_run, statuses(result)["users"]) == (False, True, "refused")
    assert (files(to), facts(to)) == (set(), [])


def test_missing_files_are_noted_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), put(tmp_path / "in", users="user_id,plan\na,Basic\n")
    result = run(to, folder)
    assert statuses(result) == {"users": "ingested"}
    assert result.notes == ("visits: no file visits.csv or .parquet", "usage: no file usage.csv or .parquet")
    with pytest.raises(InvalidInput, match="no table has a file there"):
        run(to, put(tmp_path / "empty"))
    with pytest.raises(InvalidInput, match="no table has a file there"):
        run(to, folder, only=["visits"])
    with pytest.raises(InvalidInput, match="is no folder"):
        run(to, tmp_path / "nowhere")
    with pytest.raises(NotFound, match="vists"):
        run(to, folder, only=["vists"])


def test_only_the_tables_asked_for(tmp_path: Path) -> None:
    to = world(tmp_path / "home")
    assert statuses(run(to, good(tmp_path / "in"), only=["visits"])) == {"visits": "ingested"}


def test_an_as_of_ahead_of_the_system_clock_is_refused(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home", "system"), good(tmp_path / "in")
    on_system = Settings(project="water")
    with pytest.raises(InvalidInput, match="is in the future"):
        run(to, folder, datetime.now(UTC) + timedelta(hours=1), on_system)
    with pytest.raises(InvalidInput, match="no time zone"):
        run(to, folder, datetime(2024, 1, 31), on_system)  # noqa: DTZ001
    assert run(to, folder, settings=on_system).passed
    known = histories(to, [USERS], current_dataset(to, [USERS], JANUARY))["users"][KNOWN]
    assert set(known) == {JANUARY}  # first told of then, whenever it was ingested


def test_workers_are_told_when_a_data_clock_moves(tmp_path: Path) -> None:
    to = world(tmp_path / "home")
    run(to, good(tmp_path / "in"))
    signed = to.publisher.current()
    assert signed is not None
    assert '"data_now":"2024-01-31T00:00:00Z"' in signed.payload


def test_a_dataset_leaves_out_what_was_told_later(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    run(to, folder)
    run(to, folder, FEBRUARY)
    early, late = (current_dataset(to, [USERS], moment) for moment in (JANUARY, FEBRUARY))
    assert [s.as_of for s in early.snapshots] == [JANUARY]
    assert [s.as_of for s in late.snapshots] == [JANUARY, FEBRUARY]
    assert early.digest != late.digest
    assert histories(to, [USERS], late)["users"].height == 4
    put(folder, users="user_id,plan\na,Gold\nb,Gold\n")
    run(to, folder, JANUARY)  # January said anew, in February: nobody knew it in January
    assert current_dataset(to, [USERS], JANUARY) == early
    assert len(current_dataset(to, [USERS], FEBRUARY).snapshots) == 3


def test_one_ingest_at_a_time(tmp_path: Path) -> None:
    to, folder = world(tmp_path / "home"), good(tmp_path / "in")
    run(to, folder)
    with (tmp_path / "home" / "ingest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another ingest"):
            run(to, folder)
    assert run(to, folder).passed


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from tests.loop.test_ingest import run, world
to, step, calls = world(Path(sys.argv[1])), int(sys.argv[3]), 0
class Killed:
    def __init__(self, real): self.real = real
    def __getattr__(self, name):
        global calls
        if name in ("write", "add_snapshot", "advance", "generation"):
            calls += 1
            if calls == step: os.kill(os.getpid(), signal.SIGKILL)
        return getattr(self.real, name)
run(replace(to, state=Killed(to.state), snapshots=Killed(to.snapshots), clock=Killed(to.clock)), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("step", [1, 2, 4, 7, 8])
def test_a_killed_ingest_is_completed_by_the_next(tmp_path: Path, step: int) -> None:
    home, folder, repository = tmp_path / "home", good(tmp_path / "in"), str(Path(__file__).parents[2])
    command = [sys.executable, "-c", KILLED, str(home), str(folder), str(step), repository]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    to = world(home)
    recorded = to.state.snapshots()
    assert len(recorded) == min((step - 1) // 2, 3)
    assert all(to.snapshots.read(snapshot).height == 2 for snapshot in recorded)
    assert run(to, folder).passed
    assert sorted(s.table for s in to.state.snapshots()) == ["usage", "users", "visits"]
    assert [event.kind for event in facts(to)] == ["data.ingested"] * 3
    assert to.clock.now() == JANUARY
    signed = to.publisher.current()
    assert signed is not None
    assert '"data_now":"2024-01-31T00:00:00Z"' in signed.payload


def test_the_reference_tables(tmp_path: Path) -> None:
    project, settings = load_project(PROJECT), load_settings(PROJECT, None, {})
    to = world(tmp_path / "home")
    for month, as_of in MONTHS.items():
        result = ingest(to, project, settings, month_folder(month), as_of, actor="ana")
        assert {t.table: (t.status, t.rows, t.quarantined) for t in result.tables} == dict.fromkeys(
            (table.name for table in project.tables), ("ingested", 7_043, 0)
        )
        assert set(statuses(ingest(to, project, settings, month_folder(month), as_of, actor="ana")).values()) == {
            "already known"
        }
    assert to.clock.now() == MONTHS["month_001"]
    past = histories(to, project.tables, current_dataset(to, project.tables, to.clock.now()))
    months = past["labels"].group_by("__event").agg(pl.col("churn_label").mean()).sort("__event")
    assert months["churn_label"].round(3).to_list() == [0.265, 0.242]  # every month keeps its own labels
    tv = past["subscriptions"].filter(pl.col("__event") == MONTHS["month_000"])["plan_stream_tv"]
    assert (tv.null_count(), int(tv.sum())) == (1_526, 2_707)  # nobody without internet streams television


def test_a_bad_month_never_reaches_the_live_tables(tmp_path: Path) -> None:
    project, settings, to = load_project(PROJECT), load_settings(PROJECT, None, {}), world(tmp_path / "home")
    folder = tmp_path / "in"
    folder.mkdir()
    for path in month_folder("month_000").glob("*.csv"):
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / "subscriptions.csv"
    raw = pl.read_csv(path, infer_schema=False)
    raw.with_columns(months_active=pl.lit("-") + pl.col("months_active")).write_csv(path)
    result = ingest(to, project, settings, folder, JANUARY, actor="ana")
    assert not result.passed
    assert statuses(result)["subscriptions"] == "refused"
    assert to.state.snapshots() == ()
