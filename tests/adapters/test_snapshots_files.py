"""Snapshots on disk: whole or absent, checked on every read, for their owner alone."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.errors import Corrupt, InvalidInput, NotFound, Unavailable
from ecluse.core.snapshot import Snapshot

AS_OF = datetime(2024, 1, 31, tzinfo=UTC)
DIGEST = "ab" * 32
SNAPSHOT = Snapshot("visits", DIGEST, AS_OF, AS_OF, AS_OF, 2, 1, "cd" * 32)
ROWS = pl.DataFrame({"__key": ["a", "b"], "__event": [AS_OF, AS_OF], "fee": [1.5, None]})
BAD = pl.DataFrame({"__row": [3], "__reasons": [["fee: below 0"]], "fee": ["-1"]})

# A child per step, which ends itself at its n-th call that reaches the disk, as a cut of power would. The children are
# forked, so that imports are paid for once; polars' threads do not survive a fork, so Parquet is made beforehand.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ecluse.adapters import snapshots_files
from tests.adapters.test_snapshots_files import BAD, ROWS, write
made = {id(frame): snapshots_files._parquet(frame) for frame in (ROWS, BAD)}
snapshots_files._parquet = lambda frame: made[id(frame)]
calls = 0
def counted(real, last):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for step in range(1, 60):
    child = os.fork()
    if child == 0:
        os.fsync, os.rename, os.open = (counted(each, step) for each in (os.fsync, os.rename, os.open))
        write(Path(sys.argv[1]) / str(step))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(step)
"""


def write(root: Path, rows: pl.DataFrame = ROWS) -> SnapshotsFiles:
    store = SnapshotsFiles(root)
    store.write("visits", DIGEST, rows, BAD, b'{"rows":2}')
    return store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def test_what_is_written_is_read_back(root: Path) -> None:
    store = write(root)
    assert store.read(SNAPSHOT).equals(ROWS)
    assert store.read(SNAPSHOT).schema == ROWS.schema
    assert store.quarantined(SNAPSHOT).equals(BAD)
    assert store.manifest(SNAPSHOT) == {"rows": 2}


def test_for_its_owner_alone(root: Path) -> None:
    write(root)
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_the_same_again_changes_nothing(root: Path) -> None:
    write(root)
    before = {path: path.stat().st_mtime_ns for path in (root / "visits" / DIGEST).iterdir()}
    write(root)
    assert {path: path.stat().st_mtime_ns for path in (root / "visits" / DIGEST).iterdir()} == before


def test_what_was_never_recorded_is_replaced(root: Path) -> None:
    other = ROWS.with_columns(fee=pl.lit(9.0))
    write(root, other)
    assert write(root).read(SNAPSHOT).equals(ROWS)
    assert [path.name for path in (root / "visits").iterdir() if path.name != ".lock"] == [DIGEST]


def test_an_unknown_snapshot(root: Path) -> None:
    with pytest.raises(NotFound, match="abababababab of visits"):
        SnapshotsFiles(root).read(SNAPSHOT)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["rows.parquet", "quarantine.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_is_found_before_anything_is_parsed(root: Path, name: str, damage: Callable[[Path], None]) -> None:
    store = write(root)
    damage(root / "visits" / DIGEST / name)
    read = store.quarantined if name == "quarantine.parquet" else store.read
    with pytest.raises(NotFound if (name, damage) == ("manifest.json", Path.unlink) else Corrupt):
        read(SNAPSHOT)


def test_names_cannot_leave_the_store(root: Path) -> None:
    for bad in (replace(SNAPSHOT, digest="../../x"), replace(SNAPSHOT, table="../x"), replace(SNAPSHOT, table="")):
        with pytest.raises(InvalidInput):
            SnapshotsFiles(root).read(bad)


def test_writers_at_once_leave_one_whole_snapshot(root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, root) for _ in range(24)]:
            done.result()
    assert SnapshotsFiles(root).read(SNAPSHOT).equals(ROWS)
    assert not list((root / "visits").glob(".unfinished-*"))


def test_a_full_disk_leaves_nothing(root: Path) -> None:
    root.mkdir()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(Unavailable, match="cannot be written"):
            write(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in (root / "visits").iterdir()] == [".lock"]
    assert write(root).read(SNAPSHOT).equals(ROWS)


def test_a_kill_at_any_step_leaves_it_whole_or_absent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[2])]
    done = subprocess.run(command, timeout=60, check=True, capture_output=True, text=True)
    steps = int(done.stdout)
    outcomes = []
    for step in range(1, steps + 1):
        store = tmp_path / str(step)
        try:
            outcomes.append(SnapshotsFiles(store).read(SNAPSHOT).equals(ROWS))
        except NotFound:
            outcomes.append(False)
        assert write(store).read(SNAPSHOT).equals(ROWS)
        assert not list((store / "visits").glob(".unfinished-*"))
    assert outcomes == sorted(outcomes)  # absent up to the rename, whole from then on
    assert outcomes.count(False) >= 10
    assert outcomes.count(True) >= 3


def test_the_manifest_is_json_for_other_tools(root: Path) -> None:
    write(root)
    manifest = json.loads((root / "visits" / DIGEST / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["files"]["rows.parquet"][1] == (root / "visits" / DIGEST / "rows.parquet").stat().st_size
