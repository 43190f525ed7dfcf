"""The online store: newer is never overwritten by older, a write is whole or absent, trouble has a name and a cure."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.core.errors import Corrupt, Unavailable
from ecluse.core.ports import OnlineRow

ROW = OnlineRow(
    {"watch_hours": 1.5, "plan": "Gold", "trial": False, "since": 1_700_000_000_000_000, "none": None}, 10, 7
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "online.db"


@pytest.fixture
def store(path: Path) -> Iterator[OnlineSqlite]:
    online = OnlineSqlite.open(path)
    yield online
    online.close()


def test_what_is_written_is_read_in_one_go(store: OnlineSqlite, path: Path) -> None:
    assert store.write("profile", [("1", ROW), ("2", ROW)]) == (2, 0)
    assert store.write("usage", [("1", OnlineRow({}, 11, None))]) == (1, 0)
    reader = OnlineSqlite.open(path, read_only=True)
    assert reader.read(["profile", "usage", "other"], "1") == {"profile": ROW, "usage": OnlineRow({}, 11, None)}
    assert reader.read(["usage"], "2") == {}
    assert reader.read(["profile"], "0") == {}
    assert reader.moment("profile") == 10
    assert reader.moment("other") is None
    reader.close()


def test_older_values_never_replace_newer_ones(store: OnlineSqlite) -> None:
    older, same = OnlineRow({"x": 0.0}, 9, 1), OnlineRow({"x": 2.0}, 10, 1)
    store.write("profile", [("1", ROW), ("2", ROW)])
    assert store.write("profile", [("1", older), ("2", older), ("3", older)]) == (1, 2)
    assert store.read(["profile"], "1") == {"profile": ROW}
    assert store.moment("profile") == 10
    assert store.write("profile", [("1", same)]) == (1, 0)  # the same moment computed again, with a correction
    assert store.read(["profile"], "1") == {"profile": same}


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=4), max_size=6))
def test_the_newest_moment_wins_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[str, int]]]
) -> None:
    store = OnlineSqlite.open(tmp_path_factory.mktemp("online") / "online.db")
    newest: dict[str, OnlineRow] = {}
    for number, batch in enumerate(batches):
        rows = [
            (key, OnlineRow({"n": float(number), "i": float(i)}, as_of, None)) for i, (key, as_of) in enumerate(batch)
        ]
        written, kept = store.write("v", rows)
        assert written + kept == len(rows)
        for key, row in rows:
            if key not in newest or row.as_of >= newest[key].as_of:
                newest[key] = row
    for key in "ab":
        assert store.read(["v"], key).get("v") == newest.get(key)
    assert store.moment("v") == max((row.as_of for row in newest.values()), default=None)
    store.close()


def test_a_failing_batch_leaves_nothing(store: OnlineSqlite) -> None:
    store.write("v", [("1", ROW)])
    bad: list[tuple[str, OnlineRow]] = [("1", OnlineRow({}, 11, None)), ("2", OnlineRow({}, "later", None))]  # type: ignore[arg-type]
    with pytest.raises((Unavailable, TypeError)):
        store.write("v", bad)
    assert store.read(["v"], "1") == {"v": ROW}
    assert store.moment("v") == 10


def test_files_are_private(store: OnlineSqlite, path: Path) -> None:
    store.write("v", [("1", ROW)])
    modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_reader_waits_for_the_store_to_be_made(path: Path, store: OnlineSqlite) -> None:
    reader = OnlineSqlite.open(path, read_only=True)
    with pytest.raises(Unavailable, match="ecluse materialize"):
        reader.read(["v"], "1")
    assert not path.exists()
    store.write("v", [("1", ROW)])
    assert reader.read(["v"], "1") == {"v": ROW}
    reader.close()


def test_a_reader_cannot_write(path: Path, store: OnlineSqlite) -> None:
    store.write("v", [])
    reader = OnlineSqlite.open(path, read_only=True)
    with pytest.raises(Unavailable, match="permissions"):
        reader.write("v", [("1", ROW)])
    reader.close()


def test_a_deleted_store_does_not_go_on_answering(path: Path, store: OnlineSqlite) -> None:
    store.write("v", [("1", ROW)])
    reader = OnlineSqlite.open(path, read_only=True)
    assert reader.read(["v"], "1")
    store.close()
    reader.close()
    reader.read(["v"], "1")
    path.unlink()
    with pytest.raises(Unavailable, match="no online store"):
        reader.read(["v"], "1")
    for leftover in path.parent.iterdir():
        leftover.unlink()
    store.write("v", [("1", OnlineRow({}, 1, None))])
    assert reader.read(["v"], "1") == {"v": OnlineRow({}, 1, None)}
    reader.close()


def test_a_store_put_in_its_place_is_the_one_read(path: Path, store: OnlineSqlite, tmp_path: Path) -> None:
    store.write("v", [("1", ROW)])
    store.close()
    reader = OnlineSqlite.open(path, read_only=True)
    assert reader.read(["v"], "1") == {"v": ROW}
    other = OnlineSqlite.open(tmp_path / "other.db")
    other.write("v", [("1", OnlineRow({}, 99, None))])
    other.close()
    (tmp_path / "other.db").replace(path)
    assert reader.read(["v"], "1") == {"v": OnlineRow({}, 99, None)}
    reader.close()


def test_a_locked_store_is_unavailable_to_a_writer_and_readable(
    path: Path, store: OnlineSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecluse.adapters.online_sqlite._WRITER_WAITS_MS", 20)
    store.write("v", [("1", ROW)])
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        store.write("v", [("1", ROW)])
    assert store.read(["v"], "1") == {"v": ROW}
    other.execute("ROLLBACK")
    other.close()
    assert store.write("v", [("1", ROW)]) == (0, 1)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_no_database_is_unavailable_with_its_cure(path: Path, read_only: bool) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 100)
    online = OnlineSqlite.open(path, read_only=read_only)
    with pytest.raises(Unavailable, match="delete it and run"):
        online.read(["v"], "1")


def test_another_format_is_refused(path: Path, store: OnlineSqlite) -> None:
    store.write("v", [("1", ROW)])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unavailable, match="format 99"):
        store.read(["v"], "1")


def test_an_unreadable_row_is_corrupt_not_a_value(path: Path, store: OnlineSqlite) -> None:
    store.write("v", [("1", ROW)])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE online SET data = x'c1'")
    connection.close()
    with pytest.raises(Corrupt, match="online store"):
        store.read(["v"], "1")


def test_a_full_disk_is_said_and_leaves_the_old_values(path: Path, store: OnlineSqlite) -> None:
    store.write("v", [("1", ROW)])
    with store._use() as connection:
        connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(Unavailable, match="disk is full"):
        store.write("v", [(str(n), OnlineRow({"x": "y" * 500}, 11, None)) for n in range(1_000)])
    assert store.read(["v"], "1") == {"v": ROW}


def test_threads_share_one_store(store: OnlineSqlite) -> None:
    store.write("v", [(str(n), ROW) for n in range(100)])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: store.read(["v"], str(n % 100)), range(400)))
    assert all(rows == {"v": ROW} for rows in found)


def test_reads_of_one_turn_are_of_one_moment_and_the_next_turn_sees_what_is_new(
    path: Path, store: OnlineSqlite
) -> None:
    store.write("usage", [("1", OnlineRow({}, 10, 7))])
    reader = OnlineSqlite.open(path, read_only=True)

    async def moments() -> list[int]:
        found = [(await reader.fetch(["usage"], "1"))["usage"].as_of]
        store.write("usage", [("1", OnlineRow({}, 11, 7))])
        found.append((await reader.fetch(["usage"], "1"))["usage"].as_of)
        await asyncio.sleep(0)
        found.append((await reader.fetch(["usage"], "1"))["usage"].as_of)
        assert reader._connection is not None
        reader._connection.close()  # the library fails before the turn ends: nothing old may stay behind
        await asyncio.sleep(0)
        store.write("usage", [("1", OnlineRow({}, 12, 7))])
        found.append((await reader.fetch(["usage"], "1"))["usage"].as_of)
        return found

    assert asyncio.run(moments()) == [10, 10, 11, 12]
    reader.close()


def test_a_forked_child_opens_its_own(store: OnlineSqlite) -> None:
    store.write("v", [("1", ROW)])
    child = os.fork()
    if child == 0:
        good = store.read(["v"], "1") == {"v": ROW} and store.write("v", [("2", ROW)]) == (1, 0)
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.read(["v"], "2") == {"v": ROW}


KILLED = """
import os, signal, sys
from pathlib import Path
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.core.ports import OnlineRow

def rows():
    for n in range(2_000):
        yield str(n), OnlineRow({"x": 2.0}, 20, None)

store = OnlineSqlite.open(Path(sys.argv[1]))
with store._use() as connection:
    def trace(statement):
        if "'1500'" in statement:
            os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(trace)
store.write("v", rows())
"""


def test_a_writer_killed_in_the_middle_leaves_the_old_values(path: Path, store: OnlineSqlite) -> None:
    store.write("v", [(str(n), ROW) for n in range(2_000)])
    store.close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, timeout=60, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert all(store.read(["v"], str(n)) == {"v": ROW} for n in range(2_000))
    assert store.moment("v") == 10


def test_the_worker_can_import_it_without_heavy_libraries() -> None:
    code = "import sys, ecluse.adapters.online_sqlite; print(sorted({'polars', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
