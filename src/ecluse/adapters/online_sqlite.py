"""Online store on SQLite: one row per entity key and view in one file, written by the control plane, read by the workers.

WAL with ``synchronous=NORMAL``: readers never wait for the writer, a killed process loses nothing, a power failure at most the
last materialisation, which can be made again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ecluse.core.errors import Corrupt, EcluseError, Unavailable
from ecluse.core.ports import OnlineRow

FORMAT = 1
_WRITER_WAITS_MS = 5_000
_READER_WAITS_MS = 50  # a worker has a deadline; in WAL a reader waits only while the file is being recovered
_SCHEMA = """
CREATE TABLE IF NOT EXISTS online (
    key TEXT NOT NULL, view TEXT NOT NULL, as_of INTEGER NOT NULL, event INTEGER, data BLOB NOT NULL,
    PRIMARY KEY (key, view)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moments (view TEXT PRIMARY KEY, as_of INTEGER NOT NULL) WITHOUT ROWID;
"""
_UPSERT = """
INSERT INTO online (key, view, as_of, event, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key, view) DO UPDATE SET as_of = excluded.as_of, event = excluded.event, data = excluded.data
WHERE excluded.as_of > online.as_of
    OR excluded.as_of = online.as_of AND (excluded.event IS NOT online.event OR excluded.data <> online.data)
"""
_UPSERT_MOMENT = """
INSERT INTO moments (view, as_of) VALUES (?, ?)
ON CONFLICT (view) DO UPDATE SET as_of = excluded.as_of WHERE excluded.as_of > moments.as_of
"""
_READ = "SELECT view, as_of, event, data FROM online WHERE key = ?"
_MOMENT = "SELECT as_of FROM moments WHERE view = ?"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bool | int | float | str | None]).decode


class OnlineSqlite:
    """Ports Online and OnlineReads. Safe from several threads and processes; after a fork or when the file was replaced it opens anew."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path, self.read_only, self._name = path, read_only, str(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int, int] | None = None  # process, device, inode

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> OnlineSqlite:
        """The store in this file; a writer makes it (0600) at the first write, a reader waits for it: nothing is touched before first use."""
        return cls(path, read_only=read_only)

    def write(self, view: str, rows: Iterable[tuple[str, OnlineRow]]) -> tuple[int, int]:
        """One transaction; see port Online. Raises Unavailable."""
        given = [(key, view, row.as_of, row.event, _encode(row.values)) for key, row in rows]
        with self._use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                # the count of changed rows leaves out those whose WHERE kept the newer or the same
                written = connection.executemany(_UPSERT, given).rowcount if given else 0
                if given:
                    connection.execute(_UPSERT_MOMENT, (view, max(row[2] for row in given)))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return written, len(given) - written

    def read(self, views: Sequence[str], key: str) -> Mapping[str, OnlineRow]:
        """One statement: all rows of a key lie together. Raises Unavailable, Corrupt."""
        with self._use() as connection:
            found = connection.execute(_READ, (key,)).fetchall()
        return self._rows(views, found)

    def _rows(self, views: Sequence[str], found: list[tuple[str, int, int | None, bytes]]) -> dict[str, OnlineRow]:
        try:
            return {view: OnlineRow(_decode(data), as_of, event) for view, as_of, event, data in found if view in views}
        except msgspec.MsgspecError:
            raise Corrupt("a row of the online store cannot be read", where=str(self.path), cure=_CURE) from None

    def moment(self, view: str) -> int | None:
        """See port Online. Raises Unavailable."""
        with self._use() as connection:
            row = connection.execute(_MOMENT, (view,)).fetchone()
        return None if row is None else int(row[0])

    async def fetch(self, views: Sequence[str], key: str) -> Mapping[str, OnlineRow]:
        """See :meth:`read`: microseconds from a local file, less than what leaving the loop would cost.

        What the loop reads in one turn is read in one transaction: its locks are a third of a read, and the file is looked for once.
        """
        with self._lock:
            try:
                connection = self._connection
                if connection is None or not connection.in_transaction:
                    connection = self._connect()
                    connection.execute("BEGIN")
                    asyncio.get_running_loop().call_soon(self._let_go)
                found = connection.execute(_READ, (key,)).fetchall()
            except (sqlite3.Error, OSError) as error:
                self._drop()
                raise _unavailable(error, self.path) from error
        return self._rows(views, found)

    def _let_go(self) -> None:
        with self._lock:
            try:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._drop()  # a transaction that does not end would show the same values for ever

    async def newest(self, view: str) -> int | None:
        """See :meth:`moment`."""
        return self.moment(view)

    def close(self) -> None:
        """Release the file; the next use opens it again."""
        with self._lock:
            self._drop()

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connect()
            except (sqlite3.Error, OSError) as error:
                self._drop()
                raise _unavailable(error, self.path) from error

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only and not self.path.exists():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        status = os.stat(self._name)  # noqa: PTH116 - on each request's path; a store that was deleted must not go on answering from the deleted file
        identity = (os.getpid(), status.st_dev, status.st_ino)
        if self._connection is None or identity != self._opened:
            self._drop()
            self._connection = self._open_new()
            self._opened = identity
        return self._connection

    def _open_new(self) -> sqlite3.Connection:
        mode, wait = ("ro", _READER_WAITS_MS) if self.read_only else ("rw", _WRITER_WAITS_MS)
        address = f"{self.path.resolve().as_uri()}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {wait}")
            if not self.read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            _prepare(connection, self.path, create=not self.read_only)
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._opened is not None and self._opened[0] == os.getpid():
            connection.close()  # never in a forked child: closing would release the parent's locks
        elif connection is not None:
            _KEPT.append(connection)


_CURE = "delete it and run `ecluse materialize`: it holds nothing that cannot be computed again"
_KEPT: list[sqlite3.Connection] = []  # connections of the parent, kept so that a forked child never closes them


def _prepare(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    """Check the file's format; make the tables where there are none. Raises Unavailable."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == 0 and create:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    elif found == 0:
        raise Unavailable("the online store is empty", where=str(path), cure="fill it with `ecluse materialize`")
    elif found != FORMAT:
        raise Unavailable(f"the online store has format {found}, not {FORMAT}", where=str(path), cure=_CURE)


def _unavailable(error: sqlite3.Error | OSError, path: Path) -> EcluseError:
    where, text = str(path), str(error)
    if isinstance(error, FileNotFoundError):
        return Unavailable("there is no online store", where=where, cure="make it with `ecluse materialize`")
    if isinstance(error, sqlite3.OperationalError) and "locked" in text:
        return Unavailable("the online store is locked", where=where, cure="try again; see who else writes to it")
    if "full" in text or "No space" in text:
        return Unavailable(
            "the disk is full", where=where, cure="make room, then run `ecluse materialize`: nothing was half-written"
        )
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return Unavailable(f"the online store is damaged: {text}", where=where, cure=_CURE)
    return Unavailable(
        f"the online store cannot be used: {text}", where=where, cure="check the file and its permissions"
    )
