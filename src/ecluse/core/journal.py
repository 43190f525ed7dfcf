"""A journal as others see it: its records, its segments, and where it begins after retention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

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


class ReadPredictions(Protocol):
    """The journals of all workers as one stream, oldest first."""

    def __call__(
        self, since: datetime | None, until: datetime | None, last: int | None, *, model: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Records with ``since <= time < until``, those of one ``model``, of these the ``last`` N. Raises Corrupt, Unavailable."""
        ...
