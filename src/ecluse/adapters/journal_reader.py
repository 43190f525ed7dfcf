"""The journal's reader: all workers' records as one stream in order of time, and the check that nothing was changed.

Reads what journal_files.py writes, also while it writes. Needs no lock and changes nothing.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ecluse.adapters.journal_segments import (
    START_FILE,
    Problem,
    first_segment,
    kept_segments,
    read_marker,
    segment_name,
)
from ecluse.adapters.sealing import verify as verify_signature
from ecluse.core.errors import Corrupt, InvalidInput, NotFound, Unavailable
from ecluse.core.frame import START, Damage, Frame, Head, link, walk
from ecluse.core.instants import parse_instant

Entry: TypeAlias = tuple[datetime, dict[str, Any]]
Keep: TypeAlias = Callable[[Entry], bool]
Report: TypeAlias = Callable[[Problem], None]

_RECHECK_SECONDS = 0.05


def read(
    root: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    last: int | None = None,
    worker: str | None = None,
    kind: str | None = None,
    model: str | None = None,
    problems: list[Problem] | None = None,
) -> Iterator[dict[str, Any]]:
    """Records with ``since <= time < until``, ordered within a worker and merged over workers by time.

    ``last`` keeps the newest so many of them (reading segments from the end), ``kind`` those of one kind ("prediction",
    "outcome"), ``model`` those of one model. Erased records are skipped; a torn tail of the newest segment ends its worker. Other damage raises
    Corrupt, located, or with ``problems`` is put there and reading goes on behind it. Holds one record per worker
    (``last``: so many). Raises InvalidInput on a naive bound or negative ``last``, NotFound for an unknown ``worker``,
    Unavailable on a read error. A journal not yet written is empty.
    """
    if any(bound is not None and bound.tzinfo is None for bound in (since, until)):
        raise InvalidInput("a bound has no time zone", where="journal", cure="use an aware datetime")
    if last is not None and last < 0:
        raise InvalidInput(f"last {last}", where="journal", cure="ask for 0 or more records")

    def keep(entry: Entry) -> bool:
        at, record = entry
        in_time = (since is None or at >= since) and (until is None or at < until)
        asked = (kind is None or record["kind"] == kind) and (model is None or record.get("model") == model)
        return in_time and asked

    report = _raise if problems is None else problems.append
    directories = _named(root, worker)
    if last is None:
        merged = heapq.merge(*(_entries(each, keep, report) for each in directories), key=_time)
        return (record for _, record in merged)
    newest = heapq.merge(*(_latest(each, keep, report, last) for each in directories), key=_time)
    return (record for _, record in deque(newest, maxlen=last))


def verify(
    root: Path, *, heads: Mapping[str, Head] | None = None, trusted: Sequence[str] | None = None
) -> list[Problem]:
    """Every place where a header, a payload, the chain or the row of segments is not as written; [] when all is.

    A cut at the very end, on a frame's edge, leaves a shorter but whole chain: only ``heads`` (worker to a head noted
    elsewhere, see ``Journal.head``) can show it, or a chain that was written anew. Where retention has dropped segments,
    their end is believed from ``start.json``: with ``trusted`` (public keys, hex) only when one of them has signed it.
    Linear in the bytes of the journal. Raises Unavailable on a read error.
    """
    anchors = dict(heads or {})
    directories = worker_directories(root)
    problems = [found for each in directories for found in _verify_worker(each, anchors.pop(each.name, None), trusted)]
    return problems + [
        Problem(name, segment_name(1), 0, anchor.sequence, "the worker's directory is missing")
        for name, anchor in sorted(anchors.items())
    ]


def heads(root: Path) -> dict[str, Head]:
    """Per worker the last whole record's sequence and hash: what to note elsewhere for ``verify``. Raises Unavailable."""
    found: dict[str, Head] = {}
    for directory in worker_directories(root):
        for path in reversed(_segments(directory)):
            if frames := [each for each in _items(path) if isinstance(each, Frame)]:
                found[directory.name] = Head(frames[-1].header.sequence, frames[-1].header.hash)
                break
    return found


def _start(directory: Path, trusted: Sequence[str] | None) -> tuple[Head, int, str]:
    """The head before the first segment kept, how many segments were dropped, and what is wrong with what says so."""
    try:
        marker = read_marker(directory)
        if marker is None:
            return START, 0, ""
        start, signed = marker
        if trusted is not None:
            verify_signature(signed, trusted)
    except Corrupt as error:
        return START, 0, error.what
    return Head(start.sequence, bytes.fromhex(start.hash)), start.segment - 1, ""


def _verify_worker(directory: Path, anchor: Head | None, trusted: Sequence[str] | None) -> Iterator[Problem]:
    worker, (head, number, what) = directory.name, _start(directory, trusted)
    if what:
        yield Problem(worker, START_FILE, 0, 1, what)
    what = _anchor_flaw(head, anchor)
    if what:
        yield Problem(worker, START_FILE, 0, head.sequence, what)
    anchored = anchor is None or anchor == START or anchor.sequence <= head.sequence
    paths = _segments(directory)
    for path in paths:
        for missing in range(number + 1, int(path.stem)):
            yield Problem(worker, segment_name(missing), 0, head.sequence + 1, "the segment is missing")
        number = int(path.stem)
        for item in _items(path):
            if _is_torn_end(path, paths, item) and _has_changed(path, item):
                break
            expected = head.sequence + 1
            following, what = link(head, item)
            head = following or head
            what = what or _anchor_flaw(head, anchor) or _record_flaw(item)
            anchored = anchored or (anchor is not None and head.sequence == anchor.sequence)
            if what:
                yield Problem(worker, path.name, item.offset, expected, what)
    if number and not paths:
        yield Problem(worker, segment_name(number + 1), 0, head.sequence + 1, "the segment is missing")
    if not anchored and anchor is not None:
        segment = paths[-1] if paths else directory / segment_name(1)
        size = segment.stat().st_size if paths else 0
        what = f"the journal ends before record {anchor.sequence}, which was noted"
        yield Problem(worker, segment.name, size, head.sequence + 1, what)


def _anchor_flaw(head: Head, anchor: Head | None) -> str:
    if anchor is None or head.sequence != anchor.sequence or head.hash == anchor.hash:
        return ""
    return "the record is not the one that was noted: the chain was written anew"


def _record_flaw(item: Frame | Damage) -> str:
    if isinstance(item, Damage):
        return item.what
    entry = decode(item)
    return entry if isinstance(entry, str) else ""


def decode(frame: Frame) -> Entry | str | None:
    """A frame's time and record; None when erased; what is wrong when it is no record."""
    if frame.record is None:
        return None
    try:
        record = msgspec.json.decode(frame.record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "the record is not JSON"
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("kind", "time")):
        return "the record is not an object with kind and time"
    try:
        return parse_instant(record["time"]), record
    except InvalidInput as error:
        return f"the record's time: {error.what}"


def _entries(directory: Path, keep: Keep, report: Report) -> Iterator[Entry]:
    paths = _segments(directory)
    return chain.from_iterable(_segment_entries(path, paths, keep, report) for path in paths)


def _latest(directory: Path, keep: Keep, report: Report, last: int) -> Iterable[Entry]:
    """The worker's newest ``last`` entries, oldest first, from as few segments as hold them."""
    paths, found = _segments(directory), deque[Entry]()
    for path in reversed(paths):
        wanted = last - len(found)
        if wanted <= 0:
            break
        found.extendleft(reversed(deque(_segment_entries(path, paths, keep, report), maxlen=wanted)))
    return found


def _segment_entries(path: Path, paths: list[Path], keep: Keep, report: Report) -> Iterator[Entry]:
    sequence = 0
    for item in _items(path):
        if _is_torn_end(path, paths, item):
            return
        sequence = item.header.sequence if item.header else sequence and sequence + 1
        entry = item.what if isinstance(item, Damage) else decode(item)
        if isinstance(entry, str):
            report(Problem(path.parent.name, path.name, item.offset, sequence, entry))
        elif entry is not None and keep(entry):
            yield entry


def _items(path: Path, start: int = 0) -> Iterator[Frame | Damage]:
    try:
        with path.open("rb") as stream:
            yield from walk(stream, start)
    except FileNotFoundError as error:
        if int(path.stem) >= first_segment(path.parent):  # else retention has dropped it meanwhile
            raise _unreadable(path, error) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _is_torn_end(path: Path, paths: list[Path], item: Frame | Damage) -> bool:
    """What a live writer's half-written frame looks like: the end of the newest segment, stopping short."""
    return isinstance(item, Damage) and item.torn and item.tail and path == paths[-1]


def _has_changed(path: Path, damage: Frame | Damage) -> bool:
    """Whether the bytes at a torn end are something else a moment later: then a writer is at work, no damage."""
    time.sleep(_RECHECK_SECONDS)
    return next(_items(path, damage.offset), None) != damage


def _named(root: Path, worker: str | None) -> list[Path]:
    if worker is None:
        return worker_directories(root)
    if not (root / worker).is_dir():
        raise NotFound(f"journal of worker {worker}", where=str(root), cure="leave the worker out to read all")
    return [root / worker]


def worker_directories(root: Path) -> list[Path]:
    """The directory of every worker, by name. Raises Unavailable."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    except OSError as error:
        raise _unreadable(root, error) from error


def _segments(directory: Path) -> list[Path]:
    try:
        return kept_segments(directory)
    except OSError as error:
        raise _unreadable(directory, error) from error


def _unreadable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"journal: {error.strerror or error}", where=str(path), cure="check the disk and the permissions"
    )


def _raise(problem: Problem) -> None:
    raise Corrupt(
        f"journal record {problem.sequence}: {problem.what}",
        where=f"{problem.worker}/{problem.segment} at byte {problem.offset}",
        cure="verify the journal; read with problems=[] to go on behind the damage",
    )


def _time(entry: Entry) -> datetime:
    return entry[0]
