"""Panes: a long stretch of the journal counted segment by segment, by several processes, and only once.

A closed segment never changes but by erasure, so what was counted of it is kept (``cache/monitor/``): counts and sums, no value of anybody.
A later look counts the newest segment, and what it has not seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from mmap import ACCESS_READ, mmap
from pathlib import Path

from ecluse.core.codec import canonical, digest, from_plain
from ecluse.core.errors import Corrupt, DeclarationError, Unavailable
from ecluse.core.frame import records
from ecluse.core.instants import parse_instant
from ecluse.core.journal import Segment
from ecluse.core.recipe import Split
from ecluse.monitoring.decode import Decoded, Known, make_decode, no_collection
from ecluse.monitoring.sketch import Segments, Sketch, sketch_of, together
from ecluse.stats.reference import Reference

FORMAT = 1
SHARED_BYTES = 128 * 1024 * 1024
"""From so many bytes on a second process costs less than it saves."""
BATCH = 8_192
"""Records counted together: enough of them that what each count costs besides does not matter."""
_ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""Else numpy's threads, which have nothing to do there, begin by spinning on the core that another process counts on."""


@dataclass(frozen=True)
class Version:
    """What a version's answers are counted against; ``segments`` are those of the gates."""

    number: int
    reference: Reference
    split: Split | None
    segments: Segments = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What is counted: the answers of a model's versions."""

    model: str
    versions: tuple[Version, ...]

    @property
    def digest(self) -> str:
        """Names it: panes counted for another question are not taken for this one's."""
        return digest({"format": FORMAT, "question": self})


@dataclass(frozen=True)
class Pane:
    """What a segment holds of a model: ``answers`` (version, predictions), a sketch per version asked about, ``outcomes`` reported, and the
    times of its first and last prediction; ``asked`` are the first and last moment asked about.
    """

    answers: tuple[tuple[int, int], ...] = ()
    sketches: tuple[Sketch, ...] = ()
    outcomes: int = 0
    first: str = ""
    last: str = ""
    asked: tuple[str, str] = ("", "")


def count_segments(
    home: Path, segments: Sequence[Segment], question: Question, since: datetime | None = None
) -> Pane | None:
    """All of them, in the journal's order, as one pane, from ``since`` on; None when a segment is damaged: then reading record by record says where.

    Linear in the bytes not counted before; holds one segment at a time. Raises Unavailable.
    """
    cache = home / "cache" / "monitor"
    keys = {each: _key(each, question) for each in segments}
    known = {each: _remembered(cache / f"{key}.json") for each, key in keys.items() if not each.newest}
    fresh = [each for each in segments if known.get(each) is None]
    counted = _shared(fresh, question)
    if counted is None:
        return None
    _remember(cache, {keys[each]: pane for each, pane in zip(fresh, counted, strict=True) if not each.newest})
    panes = {**known, **dict(zip(fresh, counted, strict=True))}
    parts = [_within(each, panes[each], question, since) for each in segments]
    whole = [each for each in parts if each is not None]
    return joined(whole, question) if len(whole) == len(parts) else None


def _within(segment: Segment, pane: Pane | None, question: Question, since: datetime | None) -> Pane | None:
    """What of a segment is from ``since`` on: its pane, nothing, or counted again where ``since`` cuts it."""
    if pane is None or since is None or not pane.last or parse_instant(pane.first) >= since:
        return pane
    return count_segment(segment, question, since) if parse_instant(pane.last) >= since else Pane()


def count_segment(segment: Segment, question: Question, since: datetime | None = None) -> Pane | None:
    """One segment's pane; None when it is damaged or holds what is no record."""
    versions = {each.number: each for each in question.versions}
    decode = make_decode(question.model, {n: Known(each.reference, each.split) for n, each in versions.items()})
    panes = []
    try:
        # a closed segment is mapped; the newest one's writer may cut off what it failed to write
        with no_collection(), Path(segment.path).open("rb") as file:
            mapped = not segment.newest and segment.bytes
            data = mmap(file.fileno(), 0, access=ACCESS_READ) if mapped else file.read()
            found = records(data, growing=segment.newest)
            for first in found:
                batch = chain([first], islice(found, BATCH - 1))
                panes.append(_pane(decode(batch, since), versions))
    except (OSError, ValueError, Corrupt):
        return None
    return joined(panes, question)


def _pane(decoded: Decoded, versions: Mapping[int, Version]) -> Pane:
    sketches = tuple(
        sketch_of(window, versions[number].reference, versions[number].segments)
        for number, window in sorted(decoded.windows.items())
    )
    answers = tuple(sorted(decoded.versions.items()))
    return Pane(answers, sketches, decoded.outcomes, decoded.first, decoded.last, decoded.asked)


def joined(panes: Sequence[Pane], question: Question) -> Pane:
    """Panes of one question, in the journal's order, as one."""
    answers: dict[int, int] = {}
    for pane in panes:
        for number, rows in pane.answers:
            answers[number] = answers.get(number, 0) + rows
    sketches = []
    for version in question.versions:
        parts = [sketch for pane in panes for sketch in pane.sketches if sketch.version == version.number]
        sketches += [together(parts)] if parts else []
    some = [pane for pane in panes if pane.last]
    asked = [pane.asked for pane in panes if pane.asked[1]]
    return Pane(
        tuple(sorted(answers.items())),
        tuple(sketches),
        sum(pane.outcomes for pane in panes),
        min((pane.first for pane in some), default=""),
        max((pane.last for pane in some), default=""),
        (min((first for first, _ in asked), default=""), max((last for _, last in asked), default="")),
    )


def _shared(segments: Sequence[Segment], question: Question) -> list[Pane] | None:
    """The pane of each segment, the work shared among processes where there is enough of it."""
    processes = min(os.cpu_count() or 1, 4) if sum(each.bytes for each in segments) >= SHARED_BYTES else 1
    shares = [list(segments[number::processes]) for number in range(processes)]
    children = [_begin(share, question) for share in shares[1:]]
    own = [count_segment(each, question) for each in shares[0]]
    answers = [own, *(_end(child, len(share)) for child, share in zip(children, shares[1:], strict=True))]
    found: dict[Segment, Pane] = {}
    for share, panes in zip(shares, answers, strict=True):
        for segment, pane in zip(share, panes, strict=True):
            if pane is None:
                return None
            found[segment] = pane
    return [found[each] for each in segments]


def _begin(segments: Sequence[Segment], question: Question) -> subprocess.Popen[bytes]:
    """A process that counts these segments (``loop/pane_process.py``). Raises Unavailable."""
    command = [sys.executable, "-m", "ecluse.loop.pane_process"]
    try:
        with tempfile.TemporaryFile() as order:  # a pipe would make us wait until the child has started
            order.write(canonical({"segments": segments, "question": question}))
            order.seek(0)
            return subprocess.Popen(command, stdin=order, stdout=subprocess.PIPE, env={**os.environ, **_ALONE})
    except OSError as error:
        what = f"no process could be started to count the journal: {error}"
        raise Unavailable(what, where="monitor", cure="free memory or processes") from error


def _end(child: subprocess.Popen[bytes], panes: int) -> list[Pane | None]:
    """What it counted; a child that was killed has counted nothing."""
    assert child.stdout is not None
    with child.stdout as stream:
        answer = stream.read()
    if child.wait() != 0:
        return [None] * panes
    return [None if each is None else from_plain(Pane, each) for each in json.loads(answer)]


def _key(segment: Segment, question: Question) -> str:
    return digest([segment.worker, segment.number, segment.bytes, segment.modified, question.digest])[:32]


def _remembered(path: Path) -> Pane | None:
    try:
        return from_plain(Pane, json.loads(path.read_bytes()))
    except (OSError, ValueError, DeclarationError):
        return None  # what cannot be read is counted again


def _remember(cache: Path, panes: Mapping[str, Pane]) -> None:
    """Keep panes; a disk that refuses costs the next look its time, not this one its answer."""
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        for key, pane in panes.items():
            temporary = cache / f".{key}.{os.getpid()}"
            temporary.write_bytes(canonical(pane))
            temporary.replace(cache / f"{key}.json")
    except OSError:
        return


def forget(home: Path, kept: Sequence[Segment], question: Question) -> None:
    """Delete panes that no segment has any more, and those of versions no longer asked about."""
    keys = {f"{_key(each, question)}.json" for each in kept}
    cache = home / "cache" / "monitor" / ""
    for path in cache.glob("*.json") if cache.is_dir() else ():
        if path.name not in keys:
            path.unlink(missing_ok=True)
