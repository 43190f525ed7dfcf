"""A real worker with small segments, and with a planted defect where one is named: what the durability tests must turn red on.

Run as a script: ``journal_worker.py DEFECT SEGMENT_BYTES <arguments of ecluse.worker>``; DEFECT "none" plants nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import ecluse.worker
from ecluse.adapters.journal_files import Durability, Journal
from ecluse.adapters.journal_group import GroupJournal
from ecluse.core.errors import Unavailable


class Buffered(Journal):
    """Frames wait in a buffer of the process."""

    def _write(self, data: bytes) -> None:
        if not hasattr(self, "buffer"):
            self.buffer = os.fdopen(os.dup(self._file), "ab", buffering=1 << 22)
        self.buffer.write(data)


class Unsynced(Journal):
    """No fdatasync."""

    def _sync(self, sync: Callable[[int], None], fd: int) -> None:
        if sync is not os.fdatasync:
            super()._sync(sync, fd)


class Retrying(Journal):
    """A failed fdatasync is tried again: the kernel says yes to pages it has lost."""

    def _sync(self, sync: Callable[[int], None], fd: int) -> None:
        try:
            sync(fd)
        except OSError:
            super()._sync(sync, fd)


class Careless(Journal):
    """How much was written is not looked at, and what failed is not undone."""

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._file, data)


class Early(GroupJournal):
    """Answers leave while their record is on its way."""

    async def durable(self, mark: int) -> None:
        return


KINDS: dict[str, type[Journal]] = {
    "buffered": Buffered,
    "unsynced": Unsynced,
    "retrying": Retrying,
    "careless": Careless,
}


def main() -> int:
    defect, segment_bytes = sys.argv[1], int(sys.argv[2])

    def open_(root: Path, worker: str, durability: Durability) -> Journal | GroupJournal:
        kind = KINDS.get(defect, Journal)
        journal = kind.open(root, worker, durability=durability, segment_bytes=segment_bytes)
        if durability == "process":
            return journal
        bound = 1 << 40 if defect == "unbounded" else 2_048
        group = Early if defect == "early" else GroupJournal
        return group(journal, queue_records=bound, queue_bytes=max(bound, 1 << 24))

    vars(ecluse.worker)["open_journal"] = open_
    try:
        return ecluse.worker.main(sys.argv[3:])
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 6


if __name__ == "__main__":
    sys.exit(main())
