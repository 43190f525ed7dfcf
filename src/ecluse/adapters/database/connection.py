"""One SQLite file: opened lazily per thread and process, brought to the newest schema, every refusal an error of ours.

WAL with ``synchronous=FULL``: what was committed outlives a loss of power. Writers take the lock at BEGIN, so what a transaction reads
stays true until it commits.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecluse.adapters.files import disk, locked, make_directory
from ecluse.core.codec import digest_bytes
from ecluse.core.errors import Conflict, Corrupt, EcluseError, InvalidInput, Unavailable
from ecluse.core.failpoint import failpoint

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 5.0
_APPLIED = "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, digest TEXT NOT NULL) STRICT"
_DISK = frozenset({"SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_PERM"})


class Database:
    """A SQLite file. Safe to use from several threads and processes, and across a fork."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path, self._busy = path, busy_seconds
        self._local = threading.local()

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query, seen at one instant. Raises Unavailable, Corrupt."""
        with self._translated():
            return self._connection().execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed when the body ends, undone as a whole when it raises. Raises Unavailable, Corrupt, Conflict."""
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                failpoint("state.begun")
                yield connection
                failpoint("state.before_commit")
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # after a full disk SQLite has undone it already
                    connection.execute("ROLLBACK")
                raise
            failpoint("state.after_commit")

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        self._local.__dict__.clear()

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection to the file that is there now."""
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and held.process == os.getpid():
            if held.identity == self._identity():
                return held.connection
            # The file was taken away or replaced: going on would write into one nobody else sees.
            del self._local.held
            held = None
        self._create_file()
        connection = self._open()
        # A connection inherited by a fork is kept unclosed: SQLite forbids even closing it here.
        self._local.inherited = held
        self._local.held = _Held(connection, os.getpid(), self._identity())
        return connection

    def _identity(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise Unavailable(
                f"the state is gone: {error.strerror}", where=str(self.path), cure="restore the file, or mount its disk"
            ) from error
        return found.st_dev, found.st_ino

    def _create_file(self) -> None:
        if self.path.exists() and self.path.stat().st_size:
            return
        if (self.path.parent / "published.json").exists():
            # An empty authority beside the document the lost one published would deny all that was decided.
            raise Unavailable(
                "the state is gone, what it published is still there",
                where=str(self.path),
                cure=f"restore {self.path.name}, or remove {self.path.parent} to begin anew",
            )
        make_directory(self.path.parent)
        with disk(self.path):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in ("foreign_keys = ON", "synchronous = FULL"):
                connection.execute(f"PRAGMA {pragma}")
            if _behind(connection):
                with locked(self.path.with_suffix(".lock")):  # changing to WAL does not wait for others by itself
                    connection.execute("PRAGMA journal_mode = WAL")
                    _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _ours(error, self.path) from error
        except OverflowError as error:
            raise InvalidInput(
                "a number of more than 64 bits", where=str(self.path), cure="give a smaller one"
            ) from error


class _Held:
    """A connection with the process that opened it and the file it is open on; closed when its thread lets go of it."""

    def __init__(self, connection: sqlite3.Connection, process: int, identity: tuple[int, int]) -> None:
        self.connection, self.process, self.identity = connection, process, identity

    def __del__(self) -> None:
        if self.process == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one; a trigger counts as one.

    >>> list(statements("CREATE TABLE a (x); SELECT 1;"))
    ['CREATE TABLE a (x);', 'SELECT 1;']
    """
    part = ""
    for piece in script.split(";")[:-1]:
        part += piece + ";"
        if sqlite3.complete_statement(part):
            yield part.strip()
            part = ""


def _scripts() -> dict[int, Path]:
    return {int(path.stem): path for path in sorted(MIGRATIONS.glob("*.sql"))}


def _behind(connection: sqlite3.Connection) -> bool:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = max(_scripts())
    if version > newest:
        raise Unavailable(
            f"the state is of schema {version}, this Écluse knows {newest}",
            cure="install the newer Écluse that wrote it",
        )
    return version < newest


def _migrate(connection: sqlite3.Connection) -> None:
    """Every script not yet applied, each with its record in one transaction."""
    for number, path in _scripts().items():
        script = path.read_text(encoding="utf-8")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] < number:
                connection.execute(_APPLIED)
                for statement in statements(script):
                    connection.execute(statement)
                connection.execute("INSERT INTO migration VALUES (?, ?)", (number, digest_bytes(script.encode())))
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _ours(error: sqlite3.Error, path: Path) -> EcluseError:
    """What a refusal of SQLite means to the caller."""
    name = str(getattr(error, "sqlite_errorname", ""))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(
            "database is locked", where=str(path), cure="another process holds it: let it finish, then try again"
        )
    if name.startswith("SQLITE_CONSTRAINT"):
        return Conflict(
            f"the state refused the change: {error}", where=str(path), cure="look again with `ecluse status`"
        )
    if any(name.startswith(each) for each in _DISK):
        return Unavailable(
            f"the state cannot be written or read: {error}",
            where=str(path),
            cure="free or repair the disk; nothing was changed",
        )
    return Corrupt(f"the state is damaged: {error}", where=str(path), cure="restore it from a copy")
