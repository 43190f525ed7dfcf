"""The journal's writer on local disk: every prediction is in it before the answer leaves.

One writer per directory ``journal/<worker>/`` of segments of chained frames (core/frame.py, docs/formats/journal.md).
Standard library only: this runs inside the serving worker.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from ecluse.adapters.journal_segments import Recovered, recover, segment_name
from ecluse.core.errors import Conflict, InvalidInput, Unavailable
from ecluse.core.frame import SALT_BYTES, Head, encode

Durability = Literal["process", "power"]
SEGMENT_BYTES = 64 * 1024 * 1024
DAY_SECONDS = 86_400

_WORKER = re.compile(r"[a-z0-9-]+")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Journal:
    """The one writer of ``root/worker``. Not thread-safe: all appends of a process come from one thread.

    ``head`` is the last record kept, worth noting elsewhere for ``verify``. ``recovered_bytes`` of a torn tail went into
    quarantine at opening. ``problems`` is damage found in the last segment with whole records behind it: it is left as
    it is and written after, for the caller to report.

    >>> import tempfile
    >>> with (
    ...     tempfile.TemporaryDirectory() as root,
    ...     Journal.open(Path(root), "w1", durability="process") as journal,
    ... ):
    ...     journal.append(b'{"kind":"prediction","time":"2024-01-31T00:00:00.000000Z"}')
    1
    """

    def __init__(
        self, directory: Path, lock: int, file: int, found: Recovered, durability: Durability, segment_bytes: int
    ) -> None:
        self.worker = directory.name
        self.start = base36(time.time_ns() // 1000)
        self.recovered_bytes = found.cut_bytes
        self.problems = found.problems
        self.head = found.head
        self._directory, self._lock, self._file = directory, lock, file
        self._number, self._size = found.number, found.size
        self._day = int(os.fstat(file).st_mtime // DAY_SECONDS)
        self._power, self._segment_bytes = durability == "power", segment_bytes
        self._refusal = ""
        self._retiring: threading.Thread | None = None
        self._sick = ""  # a full segment could not be synced
        self._salts, self._salted = b"", 0

    @classmethod
    def open(cls, root: Path, worker: str, *, durability: Durability, segment_bytes: int = SEGMENT_BYTES) -> Journal:
        """Lock the worker's directory, cut a torn tail into quarantine, continue the sequence.

        ``durability``: "process" outlives kill -9, "power" the loss of power (fdatasync before each return).
        Raises Conflict when another writer holds the directory, Unavailable when the disk refuses, InvalidInput on a
        bad name or setting. Reads the last segment once: linear in its bytes.
        """
        if not _WORKER.fullmatch(worker):
            raise InvalidInput(f"{worker!r} is not a worker's name", where="journal", cure="use a-z, 0-9 and -")
        if durability not in ("process", "power"):
            raise InvalidInput(f"durability {durability!r}", where="journal", cure='it is "process" or "power"')
        directory = root / worker
        with contextlib.ExitStack() as undo:
            try:
                _make_directory(directory)
                lock = _lock(directory)
                undo.callback(os.close, lock)
                found = recover(directory, lock)
                path = directory / segment_name(found.number)
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                undo.callback(os.close, file)
                os.fsync(file)
                os.fsync(lock)
            except OSError as error:
                raise _unavailable(directory, error) from error
            undo.pop_all()
        return cls(directory, lock, file, found, durability, segment_bytes)

    @property
    def refusal(self) -> str:
        """Why every append is refused from now on; empty while it is open."""
        return self._refusal

    def next_id(self, ahead: int = 0) -> str:
        """Id of the record appended next (or ``ahead`` after it): worker, process start, sequence.

        No two kept records share one.
        """
        return f"{self.worker}-{self.start}-{self.head.sequence + 1 + ahead}"

    def append(self, record: bytes) -> int:
        """Write one record (a JSON object in UTF-8), return its sequence. Raises Unavailable: then it was not kept."""
        frame, head = encode(self.head, record, self._salt())
        self._keep(frame, head)
        return head.sequence

    def append_many(self, records: Sequence[bytes]) -> list[int]:
        """Write records in order with one write and, under "power", one fdatasync. On Unavailable none is kept."""
        first, head = self.head.sequence + 1, self.head
        frames = []
        for record in records:
            frame, head = encode(head, record, self._salt())
            frames.append(frame)
        self._keep(b"".join(frames), head)
        return list(range(first, head.sequence + 1))

    @property
    def mark(self) -> int:
        """See ``GroupJournal.mark``; here what ``append`` returned for is kept already."""
        return 0

    async def durable(self, mark: int) -> None:
        """Return at once: ``append`` has waited for what the durability asks."""

    def close(self) -> None:
        """Release file and lock. Safe to call twice."""
        self._wait_for_retired()
        if self._lock >= 0:
            self._seal("it is closed")
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _salt(self) -> bytes:
        """Random bytes, fetched from the system for many records at once."""
        if self._salted == len(self._salts):
            self._salts, self._salted = os.urandom(SALT_BYTES * 256), 0
        self._salted += SALT_BYTES
        return self._salts[self._salted - SALT_BYTES : self._salted]

    def _keep(self, data: bytes, head: Head) -> None:
        if self._sick:
            self._seal(f"the disk failed to sync ({self._sick})")
        if self._refusal:
            raise Unavailable(f"journal: {self._refusal}", where=str(self._directory), cure="restart the worker")
        today = int(time.time() // DAY_SECONDS)
        if self._size and (self._size + len(data) > self._segment_bytes or self._day != today):
            self._rotate()  # by days too, or where little is asked retention had no whole segment to drop for years
        self._day = today
        self._write(data)
        self.head, self._size = head, self._size + len(data)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._file, data)
        except OSError as error:
            try:
                self._truncate()  # what was not acknowledged must not be found later
            except OSError:
                self._seal("a failed write could not be undone")
            raise _unavailable(self._directory, error) from error
        if self._power:
            self._sync(os.fdatasync, self._file)

    def _sync(self, sync: Callable[[int], None], fd: int) -> None:
        # After a failed fsync the kernel may count the lost pages as clean: a second fsync would lie, so there is none.
        try:
            sync(fd)
        except OSError as error:
            self._seal(f"the disk failed to sync ({error.strerror})")
            raise _unavailable(self._directory, error) from error

    def _rotate(self) -> None:
        path = self._directory / segment_name(self._number + 1)
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _unavailable(self._directory, error) from error
        if self._power:
            try:
                self._sync(os.fsync, self._file)
                self._sync(os.fsync, self._lock)
            except Unavailable:
                os.close(file)
                raise
            os.close(self._file)
        else:
            self._retire(self._file)
        self._file, self._number, self._size = file, self._number + 1, 0

    def _retire(self, file: int) -> None:
        """Sync and close a full segment beside the writer: the disk takes 50 ms for it, and "process" promises nothing that waits for that."""
        self._wait_for_retired()

        def sync() -> None:
            try:
                os.fsync(file)
                os.fsync(self._lock)
            except OSError as error:
                self._sick = error.strerror or str(error)
            finally:
                os.close(file)

        self._retiring = threading.Thread(target=sync, name="journal-sync", daemon=True)
        self._retiring.start()

    def _wait_for_retired(self) -> None:
        if self._retiring is not None:
            self._retiring.join()

    def _seal(self, refusal: str) -> None:
        """Refuse every further append, and leave behind only what was acknowledged as far as the disk lets us."""
        if self._refusal:
            return
        self._refusal = refusal
        with contextlib.suppress(OSError):
            self._truncate()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _truncate(self) -> None:
        """Back to the last acknowledged byte; the lock keeps an erasure (journal_erase.py) from writing behind the new end."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            os.ftruncate(self._file, self._size)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, going on after a short write. Raises OSError."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(data):
        count = os.write(fd, view[written:])
        if count == 0:
            raise OSError(errno.ENOSPC, "the write made no progress")
        written += count


def base36(value: int) -> str:
    """A whole number >= 0 in base 36.

    >>> base36(35), base36(36), base36(0)
    ('z', '10', '0')
    """
    text = ""
    while value:
        value, digit = divmod(value, 36)
        text = _DIGITS[digit] + text
    return text or "0"


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for parent in (directory.parent, directory.parent.parent):
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _lock(directory: Path) -> int:
    """The directory, open and locked for this process alone; the lock goes with the descriptor, also at kill -9."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict(
            "the journal has a writer already", where=str(directory), cure="give each worker a name of its own"
        ) from None
    except OSError:
        os.close(fd)
        raise
    return fd


def _unavailable(directory: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"journal: {error.strerror or error}",
        where=str(directory),
        cure="free or repair the disk; nothing was acknowledged",
    )
