"""The journal's segments on disk: their names and order, where a chain ends, and how a torn tail is set aside.

The writer (journal_files.py) and the reader (journal_reader.py) share this. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecluse.core.codec import from_plain
from ecluse.core.document import Signed
from ecluse.core.errors import Corrupt, DeclarationError
from ecluse.core.frame import START, Damage, Frame, Head, link, walk
from ecluse.core.journal import Start, read_start

START_FILE = "start.json"
_SEGMENT = re.compile(r"\d{8}\.seg")


@dataclass(frozen=True, slots=True)
class Problem:
    """Where a journal is not what it was when written, and how.

    ``sequence`` is the record expected at that place, 0 when that cannot be known.
    """

    worker: str
    segment: str
    offset: int
    sequence: int
    what: str

    def __str__(self) -> str:
        return f"{self.worker}/{self.segment} at byte {self.offset}, record {self.sequence}: {self.what}"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a directory held when its writer opened it."""

    head: Head
    number: int
    size: int
    cut_bytes: int
    problems: tuple[Problem, ...]


def segment_name(number: int) -> str:
    """File name of the segment with that number, from 1."""
    return f"{number:08d}.seg"


def segments(directory: Path) -> list[Path]:
    """The worker's segments, oldest first. Raises OSError."""
    return sorted(path for path in directory.iterdir() if _SEGMENT.fullmatch(path.name))


def read_marker(directory: Path) -> tuple[Start, Signed] | None:
    """Where retention says the worker's journal begins, and the signature; None where nothing was dropped. Raises Corrupt, OSError."""
    try:
        text = (directory / START_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeError:
        text = ""
    try:
        signed = from_plain(Signed, json.loads(text), where=START_FILE)
        plain = json.loads(signed.payload)
    except (ValueError, RecursionError, DeclarationError):
        raise Corrupt("the journal's start cannot be read", where=f"{directory.name}/{START_FILE}") from None
    return read_start(plain, directory.name), signed


def first_segment(directory: Path) -> int:
    """Number of the first segment retention keeps; 1 where nothing was dropped, or what says so cannot be read. Raises OSError."""
    try:
        marker = read_marker(directory)
    except Corrupt:
        return 1
    return marker[0].segment if marker else 1


def kept_segments(directory: Path) -> list[Path]:
    """The worker's segments without those that retention has dropped, or was killed before deleting. Raises OSError."""
    first = first_segment(directory)
    return [path for path in segments(directory) if int(path.stem) >= first]


def recover(directory: Path, directory_fd: int) -> Recovered:
    """Find the end of the chain, newest segment first; what lies behind the last whole frame goes into quarantine.

    Call it under the lock. Raises OSError, with the tail still in place.
    """
    existing = segments(directory)
    newest = int(existing[-1].stem) if existing else 1
    newest_size = cut_bytes = 0
    for path in reversed(existing):
        with path.open("rb") as stream:
            head, kept, problems = _survey(walk(stream), directory.name, path.name)
        tail_bytes = path.stat().st_size - kept
        if tail_bytes:
            _quarantine(path, kept, directory_fd)
            cut_bytes += tail_bytes
        if path is existing[-1]:
            newest_size = kept
        if head is not None:
            return Recovered(head, newest, newest_size, cut_bytes, tuple(problems))
    return Recovered(START, newest, newest_size, cut_bytes, ())


def _survey(items: Iterable[Frame | Damage], worker: str, segment: str) -> tuple[Head | None, int, list[Problem]]:
    """Head and end of the last whole frame (None and 0 without one), and the damage in front of it."""
    head = last = None
    kept = 0
    problems: list[Problem] = []
    pending: list[Problem] = []
    for item in items:
        expected = head.sequence + 1 if head else 0
        head, what = link(head, item)
        if what:
            pending.append(Problem(worker, segment, item.offset, expected, what))
        if isinstance(item, Frame):
            last, kept = head, item.end
            problems, pending = problems + pending, []
    return last, kept, problems


def _quarantine(path: Path, kept: int, directory_fd: int) -> None:
    """Copy what follows byte ``kept`` beside the segment, durably, then cut it off. A crash in between copies twice."""
    number = 1
    while (copy := path.with_name(f"{path.name}.quarantine-{number}")).exists():
        number += 1
    try:
        with path.open("rb") as source, copy.open("xb") as target:
            os.fchmod(target.fileno(), 0o600)
            source.seek(kept)
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    os.fsync(directory_fd)
    with path.open("rb+") as segment:
        segment.truncate(kept)
        os.fsync(segment.fileno())
