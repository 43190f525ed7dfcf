"""A writer of the journal in a process of its own, to be killed, starved of disk, or traced; run as a script.

Commands: ``write ROOT MODE`` appends for ever and prints each acknowledged id (MODE: process, power, or buffered, the planted
defect); ``fill ROOT BALLAST`` writes until the disk refuses, frees it, writes on; ``sync ROOT MODE COUNT`` appends COUNT times;
``short ROOT MODE`` lets the disk take only the first k bytes of a frame, for every k (MODE: process, or careless, the planted defect).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from ecluse.adapters.journal_files import Journal
from ecluse.core.errors import Unavailable

TIME = "2024-01-31T00:00:00.000000Z"


class Buffered(Journal):
    """The planted defect: frames go through a buffer of the process before the file."""

    def _write(self, data: bytes) -> None:
        if not hasattr(self, "buffer"):
            self.buffer = os.fdopen(os.dup(self._file), "ab", buffering=1 << 22)
        self.buffer.write(data)


class Careless(Journal):
    """The planted defect: how much was written is not looked at, and what failed is not undone."""

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._file, data)


def record(journal: Journal, padding: int = 0) -> bytes:
    body: dict[str, Any] = {"kind": "prediction", "time": TIME, "id": journal.next_id(), "padding": "x" * padding}
    return json.dumps(body).encode()


def write(root: Path, mode: str) -> None:
    kind: type[Journal] = Buffered if mode == "buffered" else Journal
    journal = kind.open(root, "w1", durability="power" if mode == "power" else "process", segment_bytes=40_000)
    while True:
        identity = journal.next_id()
        journal.append(record(journal))
        os.write(1, identity.encode() + b"\n")


def fill(root: Path, ballast: str) -> None:
    """Prints {"acked": ids, "refused": message, "after": ids}."""
    if ballast == "rlimit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    acked: list[str] = []
    refused = ""
    with Journal.open(root, "w1", durability="process") as journal:
        while not refused:
            identity = journal.next_id()
            try:
                journal.append(record(journal, padding=700))
                acked.append(identity)
            except Unavailable as error:
                refused = str(error)
        if ballast == "rlimit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        else:
            Path(ballast).unlink()
        after = [journal.next_id()]
        journal.append(record(journal, padding=700))
        sys.stdout.write(json.dumps({"acked": acked, "refused": refused, "after": after, "kept": kept(root)}))


def kept(root: Path) -> list[str]:
    from ecluse.adapters.journal_reader import read, verify

    assert verify(root) == []
    return [each["id"] for each in read(root)]


def sync(root: Path, mode: str, count: int) -> None:
    """Prints "ack" or "no" per append, unbuffered, for a tracer to see in order."""
    journal = Journal.open(root, "w1", durability="power" if mode == "power" else "process", segment_bytes=700)
    for _ in range(count):
        try:
            journal.append(record(journal))
            os.write(1, b"ack\n")
        except Unavailable:
            os.write(1, b"no\n")


def short(root: Path, mode: str) -> None:
    """Prints {"acked": ids, "refused": ids, "kept": ids, "torn": problems}."""
    kind: type[Journal] = Careless if mode == "careless" else Journal
    acked: list[str] = []
    refused: list[str] = []
    with kind.open(root, "w1", durability="process") as journal:
        path = root / "w1" / "00000001.seg"
        journal.append(record(journal))
        acked.append(f"w1-{journal.start}-1")
        for taken in range(path.stat().st_size):
            identity = journal.next_id()
            limit = path.stat().st_size + taken
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                journal.append(record(journal))
                acked.append(identity)
            except Unavailable:
                refused.append(identity)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        acked.append(journal.next_id())
        journal.append(record(journal))
    from ecluse.adapters.journal_reader import read, verify

    there = [each["id"] for each in read(root, problems=[])]
    sys.stdout.write(
        json.dumps({"acked": acked, "refused": refused, "kept": there, "torn": [str(each) for each in verify(root)]})
    )


if __name__ == "__main__":
    command, root = sys.argv[1], Path(sys.argv[2])
    if command == "write":
        write(root, sys.argv[3])
    elif command == "fill":
        fill(root, sys.argv[3])
    elif command == "short":
        short(root, sys.argv[3])
    else:
        sync(root, sys.argv[3], int(sys.argv[4]))
