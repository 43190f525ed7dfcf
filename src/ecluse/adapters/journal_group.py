"""Group commit: many requests' records in one write and one fdatasync, on a thread of its own, while the event loop goes on.

No timer delays a record: while one batch is on its way to the disk the next one collects, so a batch is as large as the disk is slow.
Standard library only: this runs inside the serving worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ecluse.adapters.journal_files import Durability, Journal
from ecluse.core.errors import EcluseError, InvalidInput, Unavailable
from ecluse.core.frame import MAX_RECORD_BYTES

QUEUE_RECORDS = 2_048
QUEUE_BYTES = 16 * 1024 * 1024
PATIENCE_SECONDS = 2.0
"""How long a request waits for the disk before it is refused, and the journal is called unwritable until the disk answers."""


def open_journal(root: Path, worker: str, durability: Durability) -> Journal | GroupJournal:
    """The worker's journal: written at once under "process", by groups under "power". Raises as ``Journal.open`` does."""
    journal = Journal.open(root, worker, durability=durability)
    return GroupJournal(journal) if durability == "power" else journal


@dataclass
class _Batch:
    records: list[bytes] = field(default_factory=list)
    size: int = 0
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def release(self) -> None:
        """Wake who waits; a waiter may have been cancelled meanwhile."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class GroupJournal:
    """A journal for one event loop: ``append`` takes a record's place, ``durable`` returns when it is on the disk.

    All state is the loop's; the thread only runs ``Journal.append_many``. When a batch fails everything taken behind it is dropped with
    it, and every request begun before is refused (``mark``), so that sequences stay without a gap and no answer leaves unkept.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        queue_records: int = QUEUE_RECORDS,
        queue_bytes: int = QUEUE_BYTES,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._journal, self._patience = journal, patience
        self._queue_records, self._queue_bytes = queue_records, queue_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._open, self._flying = _Batch(), _Batch()
        self._timer: asyncio.TimerHandle | None = None
        self._next = journal.head.sequence + 1
        self._failures, self._why, self._stuck = 0, "", ""
        self._begun = self._closed = False

    @property
    def worker(self) -> str:
        """The worker's name."""
        return self._journal.worker

    @property
    def refusal(self) -> str:
        """Why every append is refused at present; empty while it is writable."""
        return self._journal.refusal or self._stuck

    @property
    def mark(self) -> int:
        """Take it before the first append of a request, and give it to ``durable``."""
        return self._failures

    @property
    def waiting(self) -> tuple[int, int]:
        """Records and bytes that are not yet on the disk."""
        return len(self._open.records) + len(self._flying.records), self._open.size + self._flying.size

    def next_id(self, ahead: int = 0) -> str:
        """Id of the record appended next, or ``ahead`` after it."""
        return f"{self._journal.worker}-{self._journal.start}-{self._next + ahead}"

    def append(self, record: bytes) -> int:
        """Take one record, return its sequence; it is kept once ``durable`` has returned. Raises Unavailable, InvalidInput."""
        return self.append_many((record,))[0]

    def append_many(self, records: Sequence[bytes]) -> list[int]:
        """Take records in order, all or none. Call it on the event loop. Raises Unavailable when the disk is behind, or gone."""
        if self._closed or self.refusal:
            self._refuse(self.refusal or "it is closed")
        size = 0
        for record in records:
            size += len(record)
            if not 0 < len(record) <= MAX_RECORD_BYTES:
                raise InvalidInput(
                    f"a record of {len(record)} bytes",
                    where="journal",
                    cure=f"a record has 1 to {MAX_RECORD_BYTES} bytes",
                )
        held, held_bytes = self.waiting
        if held and (held + len(records) > self._queue_records or held_bytes + size > self._queue_bytes):
            self._refuse(f"{held} records wait for the disk")
        first = self._next
        self._next += len(records)
        self._open.records += records
        self._open.size += size
        if not self._begun:  # not at once: what else is ready in this turn of the loop comes along
            self._begun = True
            asyncio.get_running_loop().call_soon(self._begin)
        return list(range(first, self._next))

    async def durable(self, mark: int) -> None:
        """Return when everything appended so far is on the disk. Raises Unavailable when anything was lost since ``mark``."""
        batch = self._open if self._open.records else self._flying
        if batch.records and mark == self._failures:
            waiter = asyncio.get_running_loop().create_future()
            batch.waiters.append(waiter)
            await waiter
        if mark != self._failures:
            self._refuse(self._why)

    def close(self) -> None:
        """Write what is left, stop the thread, release the file. Safe to call twice; call it when the loop has ended.

        What was taken behind a batch that failed is not written: nobody was told that it is kept, and its ids are of other places.
        """
        if self._closed:
            return
        self._closed = True
        self._thread.shutdown(wait=True)
        try:
            in_place = self._journal.head.sequence + 1 == self._next - len(self._open.records)
            if self._open.records and in_place and not self._journal.refusal:
                self._journal.append_many(self._open.records)
        finally:
            self._journal.close()

    def _begin(self) -> None:
        """Send the collected batch to the disk."""
        if self._closed or not self._open.records:
            self._begun = False
            return
        loop = asyncio.get_running_loop()
        self._open, self._flying = _Batch(), self._open
        self._timer = loop.call_later(self._patience, self._give_up)
        loop.run_in_executor(self._thread, self._journal.append_many, self._flying.records).add_done_callback(
            self._land
        )

    def _land(self, written: asyncio.Future[list[int]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        landed, self._flying, self._stuck = self._flying, _Batch(), ""
        if (error := written.exception()) is not None:
            self._fail(error.what if isinstance(error, EcluseError) else repr(error))
            self._next = self._journal.head.sequence + 1
        landed.release()
        self._begin()

    def _give_up(self) -> None:
        """The disk takes too long: nobody waits for it any more, and nothing is taken until it answers."""
        self._stuck = f"the disk has not answered for {self._patience:g} s"
        self._fail(f"journal: {self._stuck}")
        self._flying.release()
        self._flying.waiters.clear()

    def _fail(self, why: str) -> None:
        """Refuse all that wait; what was taken behind the failed batch is dropped, its sequences are given again."""
        self._failures, self._why = self._failures + 1, why
        dropped, self._open = self._open, _Batch()
        dropped.release()
        self._next -= len(dropped.records)

    def _refuse(self, why: str) -> None:
        text = why if why.startswith("journal: ") else f"journal: {why}"
        raise Unavailable(text, where=self._journal.worker, cure="try again; nothing was acknowledged")
