"""What is done to a journal besides writing and reading it: retention drops whole old segments, erasure blanks payloads in place.

Both run beside a live writer, whose newest segment is never dropped.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ecluse.adapters.files import disk, sync_directory, write_atomic
from ecluse.adapters.journal_reader import decode, heads, read, verify, worker_directories
from ecluse.adapters.journal_segments import START_FILE, Problem, kept_segments, segments
from ecluse.core.codec import canonical
from ecluse.core.document import Signed
from ecluse.core.frame import HEADER_BYTES, START, Damage, Frame, Head, decode_header, link, walk
from ecluse.core.journal import FORMAT, Expired, Segment, Start

_BLANK = bytes(1 << 16)


@dataclass(frozen=True)
class JournalArchive:
    """The journals of all workers under ``root``. Raises Unavailable when the disk refuses."""

    root: Path

    def read(
        self,
        since: datetime | None,
        until: datetime | None,
        last: int | None,
        *,
        worker: str | None = None,
        kind: str | None = None,
        model: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """See :func:`ecluse.adapters.journal_reader.read`."""
        return read(self.root, since=since, until=until, last=last, worker=worker, kind=kind, model=model)

    def segments(self) -> tuple[Segment, ...]:
        """Every segment retention keeps, by worker and number."""
        found = []
        for directory in worker_directories(self.root):
            with disk(directory):
                paths = kept_segments(directory)
                for path in paths:
                    stat, number = path.stat(), int(path.stem)
                    newest = path == paths[-1]
                    each = Segment(directory.name, number, str(path), stat.st_size, stat.st_mtime_ns, newest)
                    found.append(each)
        return tuple(found)

    def verify(self, heads: Mapping[str, Head], trusted: Sequence[str]) -> list[Problem]:
        """See :func:`ecluse.adapters.journal_reader.verify`."""
        return verify(self.root, heads=heads, trusted=trusted)

    def heads(self) -> dict[str, Head]:
        """See :func:`ecluse.adapters.journal_reader.heads`."""
        return heads(self.root)

    def expired(self, before: datetime) -> list[Expired]:
        """Per worker the oldest segments of which no record is of ``before`` or later. Linear in their bytes."""
        found = (_expired(each, before) for each in worker_directories(self.root))
        return [each for each in found if each is not None]

    def drop(self, start: Start, marker: Signed) -> None:
        """Write the marker, then delete the segments before ``start``. Killed in between, the next drop deletes the rest."""
        directory = self.root / start.worker
        write_atomic(directory / START_FILE, canonical(marker))
        with disk(directory):
            for path in segments(directory):
                if int(path.stem) < start.segment:
                    for copy in directory.glob(f"{path.name}.quarantine-*"):
                        copy.unlink()
                    path.unlink()
            sync_directory(directory)

    def naming(self, entity: str) -> dict[str, list[int]]:
        """Per worker the sequences of records about an entity: its predictions, its outcomes, outcomes of its predictions' requests."""
        requests: set[str] = set()
        for record in read(self.root, problems=[]):
            if record.get("entity") == entity and record["kind"] == "prediction":
                requests.add(str(record.get("request_id")))
        found = {}
        for directory in worker_directories(self.root):
            frames = (frame for path in kept_segments(directory) for frame in _frames(path))
            if own := [frame.header.sequence for frame in frames if _concerns(frame, entity, requests)]:
                found[directory.name] = own
        return found

    def erase(self, places: Mapping[str, Sequence[int]]) -> int:
        """Blank the payloads of these records for good; returns how many were not blank before. Their headers stay, so the chain does."""
        count = 0
        for worker, sequences in places.items():
            wanted = frozenset(sequences)
            for path in kept_segments(self.root / worker):
                count += _blank(path, wanted)
        return count

    def quarantined(self, entity: str) -> list[str]:
        """Quarantine files that hold the entity's key as text: torn bytes no frame can be read from, to be looked at and deleted by hand."""
        needle = msgspec.json.encode(entity)
        paths = (path for each in worker_directories(self.root) for path in sorted(each.glob("*.quarantine-*")))
        return [f"{path.parent.name}/{path.name}" for path in paths if needle in path.read_bytes()]


def _expired(directory: Path, before: datetime) -> Expired | None:
    """The longest run of old segments from the first on, the newest segment never among them."""
    paths, last = kept_segments(directory), None
    count = damaged = size = 0
    head: Head | None = None
    for number, path in enumerate(paths[:-1], 1):
        records = broken = 0
        for item in _items(path):
            head, what = link(head, item)
            broken += bool(what)
            if isinstance(item, Frame):
                records += 1
                entry = decode(item)
                if isinstance(entry, tuple) and entry[0] >= before:
                    return last
        count, damaged, size = count + records, damaged + broken, size + path.stat().st_size
        end = head or START
        start = Start(FORMAT, directory.name, int(path.stem) + 1, end.sequence, end.hash.hex())
        last = Expired(start, number, count, damaged, size)
    return last


def _concerns(frame: Frame, entity: str, requests: AbstractSet[str]) -> bool:
    entry = decode(frame)
    if not isinstance(entry, tuple):
        return False
    record = entry[1]
    return record.get("entity") == entity or (record["kind"] == "outcome" and record.get("request_id") in requests)


def _blank(path: Path, sequences: AbstractSet[int]) -> int:
    """The writer's truncation takes the same lock: what is checked here under it cannot be cut off before it is overwritten."""
    chosen = [frame for frame in _frames(path) if frame.header.sequence in sequences and frame.record is not None]
    if not chosen:
        return 0
    done = 0
    with disk(path):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            for frame in chosen:
                fcntl.flock(fd, fcntl.LOCK_EX)
                done += _overwrite(fd, frame)
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.fdatasync(fd)
        finally:
            os.close(fd)
    return done


def _overwrite(fd: int, frame: Frame) -> bool:
    """Zeros over the payload, if the frame still stands where it was read."""
    header = decode_header(os.pread(fd, HEADER_BYTES, frame.offset))
    if header != frame.header or os.fstat(fd).st_size < frame.end:
        return False
    at = frame.offset + HEADER_BYTES
    while at < frame.end:
        at += os.pwrite(fd, _BLANK[: frame.end - at], at)
    return True


def _frames(path: Path) -> Iterator[Frame]:
    return (item for item in _items(path) if isinstance(item, Frame))


def _items(path: Path) -> Iterator[Frame | Damage]:
    with disk(path), path.open("rb") as stream:
        yield from walk(stream)
