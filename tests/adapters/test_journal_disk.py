"""The journal on a real disk that fills up, refuses to sync, or whose writer is killed: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import read, verify
from ecluse.core.errors import Unavailable

SCRIPT = str(Path(__file__).with_name("journal_process.py"))
RECORD = b'{"kind":"prediction","time":"2024-01-31T00:00:00.000000Z"}'


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("unshare") is not None and _run(["unshare", "-m", "true"]).returncode == 0


def can_trace() -> bool:
    return shutil.which("strace") is not None and _run(["strace", "-o", os.devnull, "true"]).returncode == 0


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def kill_at_random(root: Path, mode: str, rng: random.Random) -> list[str]:
    """Let a writer run, kill it without warning after some acknowledgements: the ids it acknowledged."""
    command = [sys.executable, SCRIPT, "write", str(root), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acked = [writer.stdout.readline().strip() for _ in range(rng.randrange(20, 1_500))]
        assert verify(root) == [] or mode == "buffered"  # looking on while it writes finds nothing wrong
        writer.send_signal(signal.SIGKILL)
        acked += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert all(acked)
    return acked


def test_sigkill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(1)
    acked: list[str] = []
    for _ in range(6):
        acked += kill_at_random(tmp_path / "journal", "process", rng)
        Journal.open(tmp_path / "journal", "w1", durability="process").close()
        kept = [each["id"] for each in read(tmp_path / "journal")]
        assert set(acked) <= set(kept)
        assert len(set(kept)) == len(kept)
    assert verify(tmp_path / "journal") == []
    assert len(list((tmp_path / "journal" / "w1").glob("*.seg"))) > 1


def test_the_kill_test_sees_a_writer_that_buffers(tmp_path: Path) -> None:
    acked = kill_at_random(tmp_path / "journal", "buffered", random.Random(2))
    Journal.open(tmp_path / "journal", "w1", durability="process").close()
    kept = {each["id"] for each in read(tmp_path / "journal")}
    assert set(acked) - kept


def check_filled(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["acked"]) > 10
    assert result["refused"].startswith("journal: ")
    assert "nothing was acknowledged" in result["refused"]
    assert result["kept"] == result["acked"] + result["after"]  # went on by itself once there was room


def test_a_file_that_may_not_grow_is_unavailable_not_half_written(tmp_path: Path) -> None:
    check_filled(_run([sys.executable, SCRIPT, "fill", str(tmp_path / "journal"), "rlimit"]))


@pytest.mark.skipif(not can_mount(), reason="needs root and mount namespaces")
def test_a_full_disk_is_unavailable_not_half_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = (
        'mount -t tmpfs -o size=256k tmpfs "$1" && head -c 128k /dev/zero > "$1/ballast" '
        '&& exec "$2" "$3" fill "$1/journal" "$1/ballast"'
    )
    check_filled(_run(["unshare", "-m", "sh", "-ec", inside, "sh", str(disk), sys.executable, SCRIPT]))


def test_a_failed_sync_is_never_tried_again(tmp_path: Path) -> None:
    """A socket takes writes and refuses fdatasync, as a dying disk does."""
    journal = Journal.open(tmp_path, "w1", durability="power")
    journal.append(RECORD)
    ours, theirs = socket.socketpair()
    os.dup2(ours.fileno(), journal._file)
    ours.close()
    with pytest.raises(Unavailable):
        journal.append(RECORD)
    for _ in range(2):
        with pytest.raises(Unavailable, match="restart the worker"):
            journal.append(RECORD)
    written = theirs.recv(1 << 16)
    theirs.close()
    journal.close()
    assert written.count(b"EJ1\n") == 1
    with Journal.open(tmp_path, "w1", durability="power") as again:
        assert again.append(RECORD) == 2
    assert verify(tmp_path) == []


def traced(root: Path, mode: str, count: int, *more: str) -> tuple[list[str], list[str]]:
    """Answers of a writer of ``count`` records, and its system calls in order."""
    log = root.parent / "trace"
    calls = ["strace", "-o", str(log), "-e", "trace=write,fdatasync,fsync,openat,ftruncate", *more]
    done = _run([*calls, sys.executable, SCRIPT, "sync", str(root), mode, str(count)])
    return done.stdout.split(), log.read_text().splitlines()


def acks_before_sync(calls: list[str]) -> int:
    """Acknowledgements that left while a frame written to a segment was not yet synced."""
    dirty, early = False, 0
    for call in calls:
        if re.match(r'write\(\d+, "EJ1\\n', call):
            dirty = True
        elif call.startswith("fdatasync(") and call.endswith("= 0"):
            dirty = False
        elif call.startswith('write(1, "ack'):
            early += dirty
    return early


needs_strace = pytest.mark.skipif(not can_trace(), reason="needs strace")


@needs_strace
def test_no_acknowledgement_precedes_its_sync_under_power(tmp_path: Path) -> None:
    answers, calls = traced(tmp_path / "journal", "power", 20)
    assert answers == ["ack"] * 20
    assert acks_before_sync(calls) == 0
    opened = [index for index, call in enumerate(calls) if "O_EXCL" in call and ".seg" in call]
    assert opened
    for index in opened:  # the old segment, then the directory that names the new one, before anything is written to it
        assert [call.split("(")[0] for call in calls[index + 1 : index + 4]] == ["fsync", "fsync", "write"]


@needs_strace
def test_the_trace_sees_a_writer_that_does_not_sync(tmp_path: Path) -> None:
    answers, calls = traced(tmp_path / "journal", "process", 5)
    assert answers == ["ack"] * 5
    assert acks_before_sync(calls) == 5


@needs_strace
def test_an_input_output_error_of_the_disk_seals_the_journal(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    answers, calls = traced(root, "power", 5, "-e", "inject=fdatasync:error=EIO:when=3")
    assert answers == ["ack", "ack", "no", "no", "no"]
    assert sum(call.startswith("fdatasync(") for call in calls) == 3
    assert verify(root) == []
    assert len(list(read(root))) == 2
    with Journal.open(root, "w1", durability="power") as journal:
        assert journal.append(RECORD) == 3


def numbered(n: int) -> bytes:
    return b'{"kind":"prediction","time":"2024-01-31T00:00:00.000000Z","n":%d}' % n


def test_under_process_nothing_waits_for_a_full_segment_to_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes its time with the full segment; meanwhile records are kept, and closing waits for it."""
    synced, let_go = list[int](), threading.Event()

    def slow(fd: int, sync: Callable[[int], None] = os.fsync) -> None:
        assert let_go.wait(10)
        synced.append(fd)
        sync(fd)

    journal = Journal.open(tmp_path, "w1", durability="process", segment_bytes=700)
    monkeypatch.setattr(os, "fsync", slow)
    sequences = [journal.append(numbered(n)) for n in range(8)]
    assert (sequences, synced) == (list(range(1, 9)), [])
    assert len(list((tmp_path / "w1").glob("*.seg"))) == 2
    let_go.set()
    journal.close()
    assert len(synced) == 2, "the full segment and the directory"
    assert verify(tmp_path) == []


def test_under_process_a_full_segment_that_fails_to_sync_seals_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Journal.open(tmp_path, "w1", durability="process", segment_bytes=700) as journal:
        monkeypatch.setattr(os, "fsync", fail)
        kept = 0
        with contextlib.suppress(Unavailable):
            while kept < 1_000:
                journal.append(numbered(kept))
                kept += 1
                time.sleep(0.001)
        assert "failed to sync" in journal.refusal
        with pytest.raises(Unavailable, match="failed to sync"):
            journal.append(numbered(kept))
    assert [each["n"] for each in read(tmp_path)] == list(range(kept))
