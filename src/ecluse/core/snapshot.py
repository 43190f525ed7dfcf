"""Snapshot: rows of a table as known at a moment, immutable, named by a digest over typed rows; and the dataset a model is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ecluse.core.codec import digest


@dataclass(frozen=True)
class Snapshot:
    """One accepted ingest of one table.

    ``digest`` covers the typed rows sorted by key and times, the as-of and the contract, never the bytes of a file format.
    ``known_at`` is when rows that correct already known ones became known; first-time rows are known from ``as_of``. ``known_from`` is the
    earliest moment any of its rows was known: before it the snapshot answers nothing.
    """

    table: str
    digest: str
    as_of: datetime
    known_at: datetime
    known_from: datetime
    rows: int
    quarantined: int
    contract: str


@dataclass(frozen=True)
class Dataset:
    """The snapshots a question is answered from, and the moment it is asked: the name of a training set."""

    snapshots: tuple[Snapshot, ...]
    moment: datetime

    @property
    def digest(self) -> str:
        """SHA-256 over the moment and the snapshots' digests with when they were known, sorted."""
        parts = sorted((s.table, s.digest, s.known_at) for s in self.snapshots)
        return digest({"moment": self.moment, "snapshots": parts})
