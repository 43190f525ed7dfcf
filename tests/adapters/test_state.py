"""The authority: what it keeps, what it refuses, what it survives."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.loop.worlds import MODEL, NOW, fact, report_of, run_of

from ecluse.adapters.clock import DataClock, SystemClock, project_clock
from ecluse.adapters.database import queries
from ecluse.adapters.database.connection import MIGRATIONS, statements
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.codec import canonical, digest_bytes
from ecluse.core.errors import Conflict, Corrupt, InvalidInput, NotAllowed, NotFound, Unavailable
from ecluse.core.event import Event, broken_at, head_of
from ecluse.core.rollout import Rollout, promote, roll_back
from ecluse.core.snapshot import Snapshot
from ecluse.core.version import ModelVersion, Stage

BUNDLE = "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state.db"


@pytest.fixture
def state(path: Path) -> SqliteState:
    return SqliteState(path)


def registered(state: SqliteState, name: str, model: str = MODEL) -> ModelVersion:
    run = run_of(name, BUNDLE, model)
    state.add_run(run, fact("run.finished", model))
    return state.register(run, NOW, fact("version.registered", model))


def moved(state: SqliteState, before: Rollout, number: int) -> Rollout:
    after = promote(before, state.version(before.model, number), None, NOW, override="test")
    state.move(before, after, fact("version.promoted", before.model))
    return after


def test_files_are_the_owners_alone(state: SqliteState, path: Path) -> None:
    state.append(fact())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_it_survives_power_loss_by_setting(state: SqliteState, path: Path) -> None:
    state.append(fact())
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert state._database.read("PRAGMA synchronous") == [(2,)]
    assert state._database.read("PRAGMA foreign_keys") == [(1,)]


def test_the_chain_holds_over_reopening(state: SqliteState, path: Path) -> None:
    first = state.append(fact(number=1.0, share=0.1, name="é", at=NOW))
    second = SqliteState(path).append(fact(model="other"))
    assert (first.sequence, second.sequence, second.previous) == (1, 2, first.hash)
    rows = list(state.ledger())
    assert broken_at(rows) is None
    assert broken_at(rows, head_of(second)) is None
    assert [row.sequence for row in state.ledger(model="other")] == [2]
    assert [row.sequence for row in state.ledger(after=1)] == [2]


def test_facts_of_a_key_are_found_in_an_old_state_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script in sorted(MIGRATIONS.glob("*.sql"))[:2]:
        (tmp_path / script.name).write_bytes(script.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("ecluse.adapters.database.connection.MIGRATIONS", tmp_path)
        old = SqliteState(path)
        for number in range(6):
            old.append(fact(model="even" if number % 2 == 0 else "odd", key="a" if number < 4 else "b", n=number))
        old.append(fact(model="even"))
        old.close()
    state = SqliteState(path)
    state.append(fact(model="odd", key="b"))
    monkeypatch.setattr("ecluse.adapters.database.sqlite.PAGE", 1)
    assert [row.sequence for row in state.ledger(key="a")] == [1, 2, 3, 4]
    assert [row.sequence for row in state.ledger(key="a", model="even", after=1)] == [3]
    assert [row.sequence for row in state.ledger(key="b", model="odd")] == [6, 8]
    assert list(state.ledger(key="c")) == []
    assert broken_at(list(state.ledger())) is None
    plan = " ".join(
        str(row) for row in state._database.read(f"EXPLAIN QUERY PLAN {queries.LEDGER_OF_KEY}", (0, "a", "even", 9))
    )
    assert "ledger_by_key" in plan, "no row of another key is read"
    state.close()


def test_the_ledger_is_read_in_pages(state: SqliteState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecluse.adapters.database.sqlite.PAGE", 3)
    for number in range(7):
        state.append(fact(model="even" if number % 2 == 0 else "odd"))
    assert [row.sequence for row in state.ledger()] == list(range(1, 8))
    assert [row.sequence for row in state.ledger(model="even")] == [1, 3, 5, 7]


def test_the_ledger_refuses_edits(state: SqliteState, path: Path) -> None:
    state.append(fact())
    connection = sqlite3.connect(path)
    for statement in ("UPDATE ledger SET hash = 'x'", "DELETE FROM ledger"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_facts_that_cannot_be_kept_are_refused(state: SqliteState) -> None:
    with pytest.raises(InvalidInput, match="kinds: "):
        state.append(fact("version.dreamt"))
    with pytest.raises(InvalidInput, match="finite"):
        state.append(fact(score=float("nan")))
    assert list(state.ledger()) == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30)
@given(evidence=st.dictionaries(st.text(max_size=6), JSON, max_size=4), reason=st.text(max_size=20))
def test_any_fact_is_read_back_as_written(
    evidence: dict[str, object], reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = SqliteState(tmp_path_factory.mktemp("state") / "state.db")
    event = Event("clock.set", NOW, "ana", reason=reason, evidence=evidence)
    try:
        canonical(event)
    except UnicodeEncodeError:  # a lone surrogate is no text
        with pytest.raises(InvalidInput):
            state.append(event)
        return
    row = state.append(event)
    (back,) = state.ledger()
    assert canonical(replace(back.event, recorded=None)) == canonical(event)
    assert back.event.recorded is not None
    assert back.hash == row.hash
    assert broken_at([back]) is None


def test_snapshots_are_recorded_once(state: SqliteState) -> None:
    one = Snapshot("users", "a" * 64, NOW, NOW, NOW, 10, 1, "c" * 64)
    two = replace(one, table="usage")
    for each in (one, two, one):
        state.add_snapshot(each, fact("data.ingested"))
    assert state.snapshots() == (one, two)
    assert state.snapshots("usage") == (two,)
    assert len(list(state.ledger())) == 2


def test_the_declaration_last_saved_is_current(state: SqliteState) -> None:
    assert state.declaration() is None
    for text in (b"{}", b"[]", b"{}"):
        state.save_declaration(digest_bytes(text), text)
        assert state.declaration() == text
    with pytest.raises(InvalidInput):
        state.save_declaration("0" * 64, b"{}")


def test_runs_are_found_by_prefix(state: SqliteState) -> None:
    for name in ("ab1", "ab2", "ab", "c%d"):
        state.add_run(run_of(name, BUNDLE), fact("run.finished"))
    assert state.run("ab1").id == "ab1"
    assert state.run("ab").id == "ab"
    assert state.run("c").parameters == {"leaves": 31, "rate": 0.1, "depth": None}
    with pytest.raises(InvalidInput, match="ab1"):
        state.run("a")
    for absent in ("%", "x", ""):
        with pytest.raises(NotFound):
            state.run(absent)
    assert [run.id for run in state.runs(MODEL)] == ["ab1", "ab2", "ab", "c%d"]
    assert state.runs("other") == ()


def test_a_run_recorded_again_is_one_run(state: SqliteState) -> None:
    run = run_of("r", BUNDLE)
    for _ in range(2):
        state.add_run(run, fact("run.finished"))
    with pytest.raises(Conflict):
        state.add_run(replace(run, seconds=9.0), fact("run.finished"))
    assert len(list(state.ledger())) == len(state.pending()) == 1


def test_versions_are_numbered_per_model(state: SqliteState) -> None:
    numbers = [registered(state, name, model).number for name, model in [("a", "x"), ("b", "y"), ("c", "x")]]
    assert numbers == [1, 1, 2]
    again = state.register(state.run("c"), NOW + timedelta(1), fact("version.registered"))
    assert again == state.version("x", 2)
    assert [row.event.version for row in state.ledger() if row.event.kind == "version.registered"] == [1, 1, 2]
    assert [(each.model, each.number) for each in state.versions()] == [("x", 1), ("x", 2), ("y", 1)]
    with pytest.raises(NotFound):
        state.version("x", 3)


def test_a_passed_report_moves_to_staging(state: SqliteState) -> None:
    version = registered(state, "a")
    state.add_report(report_of(version, None, dry=True), fact("version.gated"))
    assert state.report(MODEL, 1) is None
    failed = report_of(version, None, passed=False)
    state.add_report(failed, fact("version.gated"))
    assert state.report(MODEL, 1) == failed
    assert state.version(MODEL, 1).stage is Stage.NONE
    state.add_report(report_of(version, None), fact("version.gated"))
    assert state.version(MODEL, 1).stage is Stage.STAGING
    assert [kind for _, kind, _ in state.pending()] == ["run", "version", "report", "report", "rollout"]
    with pytest.raises(Conflict):
        state.add_report(report_of(replace(version, bundle="0" * 64), None), fact("version.gated"))
    with pytest.raises(NotFound):
        state.add_report(report_of(replace(version, number=9), None), fact("version.gated"))


def test_a_version_changes_only_from_what_was_seen(state: SqliteState) -> None:
    seen = registered(state, "a")
    generation = state.generation()
    held = replace(seen, held=True)
    state.change_version(seen, held, fact("version.held"))
    assert state.generation() == generation
    before = len(list(state.ledger()))
    with pytest.raises(Conflict, match="meanwhile"):
        state.change_version(seen, replace(seen, threshold=0.7), fact("threshold.changed"))
    assert (state.version(MODEL, 1), len(list(state.ledger()))) == (held, before)
    state.change_version(held, replace(held, threshold=0.7), fact("threshold.changed"))
    assert state.generation() == generation + 1
    with pytest.raises(NotAllowed):
        state.change_version(held, replace(held, stage=Stage.PRODUCTION), fact("version.promoted"))
    with pytest.raises(InvalidInput):
        state.change_version(held, replace(held, bundle="0" * 64), fact("version.held"))


def test_a_move_is_whole(state: SqliteState) -> None:
    for name in "ab":
        registered(state, name)
    first = moved(state, state.rollout(MODEL), 1)
    generation, pending = state.generation(), len(state.pending())
    second = moved(state, first, 2)
    assert state.rollout(MODEL) == second
    assert [each.stage for each in state.versions()] == [Stage.ARCHIVED, Stage.PRODUCTION]
    assert (state.generation(), len(state.pending())) == (generation + 1, pending + 1)
    back = roll_back(second)
    state.move(second, back, fact("version.rolled_back"))
    assert [each.stage for each in state.versions()] == [Stage.PRODUCTION, Stage.ARCHIVED]


def test_a_lost_race_changes_nothing(state: SqliteState) -> None:
    for name in "ab":
        registered(state, name)
    start = state.rollout(MODEL)
    won = moved(state, start, 1)
    kept = (list(state.ledger()), state.pending(), state.generation(), state.versions())
    with pytest.raises(Conflict, match="version 1 serves"):
        moved(state, start, 2)
    with pytest.raises(InvalidInput):
        state.move(won, replace(won, revision=won.revision + 2), fact("version.promoted"))
    assert (list(state.ledger()), state.pending(), state.generation(), state.versions()) == kept


@pytest.mark.parametrize("change", [{"stage": Stage.REJECTED}, {"pruned": True}])
def test_what_was_refused_meanwhile_cannot_become_champion(state: SqliteState, change: dict[str, object]) -> None:
    seen = registered(state, "a")
    after = promote(state.rollout(MODEL), seen, None, NOW, override="test")
    state.change_version(seen, replace(seen, **change), fact("version.rejected"))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="meanwhile"):
        state.move(state.rollout(MODEL), after, fact("version.promoted"))
    assert state.rollout(MODEL) == Rollout(MODEL)


def test_the_database_itself_refuses_a_second_production(state: SqliteState, path: Path) -> None:
    for name in "ab":
        registered(state, name)
    moved(state, state.rollout(MODEL), 1)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute("UPDATE version SET stage = 'Production' WHERE number = 2")
    connection.close()


def test_the_outbox_is_emptied_once(state: SqliteState) -> None:
    registered(state, "a")
    (run, version) = state.pending()
    assert (run[1:], version[1:]) == (("run", "a"), ("version", f"{MODEL}/1"))
    for _ in range(2):
        state.done(run[0])
    assert state.pending() == (version,)


def test_meta_is_raised_and_never_lowered(state: SqliteState) -> None:
    assert state.meta("k") is None
    assert [state.raise_meta("k", each) for each in ("b", "a", "b", "c")] == [True, False, False, True]
    assert (state.meta("k"), state.generation()) == ("c", 2)
    state.set_meta("k", "a")
    assert state.meta("k") == "a"
    assert state.bump() == 3


def test_meta_is_swapped_with_its_fact_or_not_at_all(state: SqliteState) -> None:
    event = Event("key.added", NOW, "ana")
    state.swap_meta("k", None, "a", event)
    state.swap_meta("k", "a", "b", event)
    generation, rows = state.generation(), len(list(state.ledger()))
    for before in (None, "a"):
        with pytest.raises(Conflict, match="meanwhile"):
            state.swap_meta("k", before, "c", event)
    assert (state.meta("k"), state.generation(), len(list(state.ledger()))) == ("b", generation, rows)


def test_clocks(state: SqliteState) -> None:
    system, data = project_clock("system", state), project_clock("data", state)
    assert isinstance(system, SystemClock)
    assert isinstance(data, DataClock)
    system.advance(datetime(2099, 1, 1, tzinfo=UTC))
    assert system.now() < datetime(2099, 1, 1, tzinfo=UTC)
    with pytest.raises(NotFound, match="clock set"):
        data.now()
    for to in (NOW, NOW + timedelta(microseconds=1), NOW - timedelta(days=1)):
        data.advance(to)
    assert data.now() == NOW + timedelta(microseconds=1)


def test_threads_share_one_chain(state: SqliteState) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: state.append(fact(number=number)), range(40)))
    rows = list(state.ledger())
    assert len(rows) == 40
    assert broken_at(rows) is None


def test_a_first_use_by_many_at_once_makes_one_state(path: Path) -> None:
    barrier = threading.Barrier(6)

    def start(number: int) -> None:
        mine = SqliteState(path)
        barrier.wait()
        mine.append(fact(number=number))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(start, range(6)))
    assert broken_at(SqliteState(path).ledger()) is None
    assert len(list(SqliteState(path).ledger())) == 6


def _child(state: SqliteState) -> None:
    state.append(fact(number=os.getpid()))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_its_own(state: SqliteState) -> None:
    state.append(fact())
    children = [multiprocessing.get_context("fork").Process(target=_child, args=(state,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    state.append(fact())
    assert len(list(state.ledger())) == 5
    assert broken_at(state.ledger()) is None


def test_a_locked_database_is_unavailable(state: SqliteState, path: Path) -> None:
    state.append(fact())
    impatient = SqliteState(path, busy_seconds=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="database is locked") as refused:
        impatient.append(fact())
    assert refused.value.cure
    assert len(list(impatient.ledger())) == 1
    other.execute("COMMIT")
    other.close()
    assert impatient.append(fact()).sequence == 2


def test_a_lost_file_is_unavailable(state: SqliteState, path: Path) -> None:
    state.append(fact())
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(Unavailable, match="gone"):
        state.append(fact())
    path.with_name("elsewhere").rename(path)
    assert state.append(fact()).sequence == 2


@pytest.mark.parametrize("left", ["nothing", "empty"])
def test_a_lost_authority_is_not_silently_begun_anew(path: Path, left: str) -> None:
    path.parent.mkdir()
    (path.parent / "published.json").touch()
    if left == "empty":
        path.touch()
    with pytest.raises(Unavailable, match="still there"):
        SqliteState(path).generation()
    assert path.exists() is (left == "empty")


@pytest.mark.parametrize("garbage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_garbage_is_corrupt(path: Path, garbage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(garbage)
    with pytest.raises(Corrupt, match="damaged"):
        SqliteState(path).generation()
    assert path.read_bytes() == garbage


def test_a_damaged_row_is_corrupt(state: SqliteState, path: Path) -> None:
    registered(state, "a")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE run SET value = '{\"id\": 1}'")
    connection.commit()
    connection.close()
    with pytest.raises(Corrupt, match="Run"):
        state.run("a")


def test_a_newer_schema_is_refused(state: SqliteState, path: Path) -> None:
    state.append(fact())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unavailable, match="schema 99"):
        SqliteState(path).append(fact())


def test_a_half_made_schema_is_made_whole_or_not_at_all(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001.sql").write_text("CREATE TABLE meta (key TEXT); CREATE TABLE meta (key TEXT);")
    with monkeypatch.context() as patch:
        patch.setattr("ecluse.adapters.database.connection.MIGRATIONS", tmp_path)
        with pytest.raises(Corrupt, match="already exists"):
            SqliteState(path).generation()
    assert SqliteState(path).generation() == 0


def test_statements_keep_a_trigger_whole() -> None:
    script = "CREATE TRIGGER t BEFORE DELETE ON x BEGIN SELECT 1; END; SELECT ';';"
    assert len(list(statements(script))) == 2


FULL = """
import resource, signal, sys
from pathlib import Path
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.errors import Unavailable
from ecluse.core.event import broken_at
from tests.loop.worlds import fact

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = SqliteState(Path(sys.argv[1]))
state.append(fact())
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
kept, refused = 1, None
while refused is None:
    try:
        state.append(fact(padding="x" * 20_000))
        kept += 1
    except Unavailable as error:
        refused = error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert refused.cure and len(list(state.ledger())) == kept > 1, (refused, kept)
state.append(fact())
assert broken_at(state.ledger()) is None
assert len(list(state.ledger())) == kept + 1
"""


def test_a_full_disk_is_unavailable_and_nothing_is_half_written(path: Path, root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
