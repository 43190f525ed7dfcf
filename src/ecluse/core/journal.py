"""Where a journal begins after retention: what is remembered of the segments that are gone."""

from __future__ import annotations

from dataclasses import dataclass

from ecluse.core.codec import from_plain
from ecluse.core.errors import Corrupt, DeclarationError

FORMAT = 1


@dataclass(frozen=True)
class Start:
    """A worker's first segment still there, and the last link of the chain before it (``hash`` in hex, "" when it was damaged)."""

    format: int
    worker: str
    segment: int
    sequence: int
    hash: str


@dataclass(frozen=True)
class Expired:
    """Whole segments older than retention keeps: how many, with how many records, damaged places and bytes, and where it begins then."""

    start: Start
    segments: int
    records: int
    damaged: int
    bytes: int


@dataclass(frozen=True)
class Segment:
    """A segment file of a worker's journal. Only the ``newest`` is still written; ``modified`` (nanoseconds) changes when a record is erased."""

    worker: str
    number: int
    path: str
    bytes: int
    modified: int
    newest: bool


def read_start(plain: object, worker: str) -> Start:
    """The start a plain value describes. Raises Corrupt when it is none, or another worker's."""
    try:
        start = from_plain(Start, plain, where="start.json")
        bytes.fromhex(start.hash)
    except (DeclarationError, ValueError):
        raise Corrupt("the journal's start cannot be read", where=f"{worker}/start.json") from None
    if start.format != FORMAT or start.worker != worker or start.segment < 1 or start.sequence < 0:
        raise Corrupt("the journal's start is not of this journal", where=f"{worker}/start.json")
    return start
