"""A locked, lost or damaged state, a full disk, kills and rivals, met by the real command line: the exit code, and nothing half-written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.bad_place import Place, Said, unchanged
from tests.serving.house import environment

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.database.sqlite import SqliteState


def test_a_database_that_is_locked(place: Place) -> None:
    with unchanged(place):
        holder = sqlite3.connect(place.home / "state.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        said = place.run("promote", "2", "--model", "left", "--why", "x")
        holder.close()
        assert said.code == 6
        said.says("locked", "state.db")
    assert place.run("promote", "2", "--model", "left", "--why", "x").code == 0, "and then it goes on"


@pytest.mark.parametrize(("damage", "code"), [("gone", 6), ("empty", 6), ("garbage", 7)])
def test_a_database_that_is_gone_or_damaged(place: Place, damage: str, code: int) -> None:
    path = place.home / "state.db"
    for each in place.home.glob("state.db*"):
        each.unlink()
    if damage != "gone":
        path.write_bytes(b"" if damage == "empty" else os.urandom(9_000))
    before = path.read_bytes() if path.exists() else None
    files = place.holds()
    for arguments in (("status",), ("rollback", "--model", "left", "--why", "x")):
        said = place.quick(*arguments)
        assert said.code == code, said
        said.says("state.db", "restore")
    assert place.ingest().code == code
    if damage == "gone":
        place.run("serve", "--port", "0").says("state.db", "restore")
    assert (path.read_bytes() if path.exists() else None) == before, "no empty state is begun beside what is published"
    assert place.holds() == files


def test_a_snapshot_that_is_gone(place: Place) -> None:
    shutil.rmtree(place.home / "snapshots" / "visits")
    said = place.quick("train", "--model", "left", "--no-plots")
    assert said.code == 4
    said.says("visits", "backup")


@pytest.fixture
def small_disk(place: Place) -> Iterator[Place]:
    """The project's state on a disk of its own of 6 MB, filled to the last byte."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small disk")
    state, beside = place.root / ".ecluse", place.root / "kept"
    state.rename(beside)
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(state)], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        shutil.copytree(beside, state, dirs_exist_ok=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def fill(place: Place) -> Path:
    ballast = place.root / ".ecluse" / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4_096)
    return ballast


def test_a_full_disk(small_disk: Place) -> None:
    place = small_disk
    place.facts()
    ballast = fill(place)
    files = place.holds()
    commands = [
        ("ingest", "--from", str(place.month), "--as-of", "2024-02-29"),
        ("train", "--model", "left", "--set", "trees=40", "--no-plots"),
        ("promote", "2", "--model", "left", "--why", "x"),
    ]
    for command in commands:
        said = place.run(*command)
        assert said.code == 6, (command, said)
        said.says("disk")
    assert place.holds() == files
    ballast.unlink()
    kinds = place.facts()
    for command in commands:
        assert place.run(*command).code == 0, "with space again the same command does all of it"
    assert set(place.facts()[len(kinds) :]) >= {"data.ingested", "run.finished", "version.promoted"}


def test_a_disk_that_may_only_be_read(small_disk: Place) -> None:
    place = small_disk
    facts, files = place.facts(), place.holds()
    subprocess.run(["mount", "-o", "remount,ro", str(place.root / ".ecluse")], check=True)
    try:
        for command in (
            ("ingest", "--from", str(place.month), "--as-of", "2024-02-29"),
            ("promote", "2", "--model", "left", "--why", "x"),
            ("serve", "--port", "0"),
        ):
            said = place.run(*command)
            assert said.code == 6, (command, said)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(place.root / ".ecluse")], check=True)
    assert (place.facts(), place.holds()) == (facts, files)


def test_a_training_that_is_killed(place: Place) -> None:
    """Killed when its bundle is stored and its run not yet recorded, or just recorded: every run there is can be opened."""
    facts, bundles = place.facts(), set((place.home / "bundles").iterdir())
    command = [sys.executable, "-m", "ecluse", "train", "--model", "tier", "--no-plots", "-C", str(place.root)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and set((place.home / "bundles").iterdir()) == bundles:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0), "on a busy machine it may have ended first"
    assert place.facts()[len(facts) :] in ([], ["run.finished"], ["run.finished", "version.registered"])
    assert place.quick("train", "--model", "tier", "--no-plots").code == 0
    for run in SqliteState(place.home / "state.db").runs():
        assert BundlesFiles(place.home / "bundles").get(run.bundle).digest == run.bundle


def test_two_ingests_at_once(place: Place) -> None:
    command = [sys.executable, "-m", "ecluse", "ingest", "--from", str(place.month), "--as-of", "2024-02-29", "--json"]
    command += ["-C", str(place.root)]
    running = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "abc"
    ]
    ended = [(each.communicate()[0], each.returncode) for each in running]
    assert {code for _, code in ended} <= {0, 5}
    assert 0 in {code for _, code in ended}
    assert place.facts().count("data.ingested") == 8
    for out, code in ended:
        if code == 5:
            Said(code, json.loads(out), "").says("another ingest is running")


def test_a_port_in_use(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = place.run("serve", "--port", str(other.getsockname()[1]))
    assert done.code == 5
    assert "--port" in done.errors


@pytest.mark.parametrize("port", ["99999", "-5"])
def test_a_port_that_is_none(place: Place, port: str) -> None:
    done = place.run("serve", "--port", port)
    assert done.code == 2
    assert "65535" in done.errors
