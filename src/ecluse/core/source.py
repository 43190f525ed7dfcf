"""Source: where rows arrive by themselves, drop by drop, and when a drop may be taken. Pure; reaching the files is an adapter's part.

A *drop* is one delivery: a folder with a file per table, or one file of one table. It is what it holds: the same bytes for the same moment
are the same drop, whatever it is called and however often it is delivered.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from ecluse.core.errors import DeclarationError, InvalidInput
from ecluse.core.instants import from_micros

_MOMENT = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)(?:[T_](\d\d)[:-]?(\d\d)(?:[:-]?(\d\d))?Z?)?(?!\d)")
_MONTH = re.compile(r"(?<!\d)(\d{4})-?(\d\d)(?![-\d])")
_BUCKET = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9])/([^/].*)", re.DOTALL)

SUFFIXES = (".csv", ".parquet")
UNREADY = (".tmp", ".part", ".partial", ".crdownload", ".filepart")
"""How writers call what they have not finished; like names that begin with a dot or an underscore."""


@dataclass(frozen=True)
class Source:
    """``[sources.<name>]``. ``drops`` is a pattern below the project's folder, or, as ``s3://<bucket>/<pattern>``, below a bucket of an object
    store; what it matches is one drop each.

    A source named like a table brings that table, any other brings ``tables`` (all of them when none is named). ``as_of`` is read from the
    ``"name"`` (2024-01-31, 20240131T060000Z), from a ``"month"`` in it (2024-01: its last day), or is when the drop was last ``"modified"``.
    It is looked at ``every`` so often. A drop may be taken when its ``marker`` file is there, or, without one declared, when nothing of it
    has changed for ``settle``. Its newest as-of may be ``freshness`` old, then it is late.
    """

    drops: str
    as_of: Literal["name", "month", "modified"] = "name"
    tables: tuple[str, ...] = ()
    every: timedelta = timedelta(seconds=2)
    settle: timedelta = timedelta(seconds=1)
    marker: str = ""
    freshness: timedelta | None = None

    def __post_init__(self) -> None:
        if "://" in self.drops and not _BUCKET.fullmatch(self.drops):
            cure = 'write it like "s3://bucket/landing/*", credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY'
            raise DeclarationError("drops names no prefix of a bucket", where="sources", cure=cure)
        if not self.drops or self.drops.startswith("/") or ".." in PurePosixPath(self.drops).parts:
            cure = 'give a pattern below the project\'s folder, such as "incoming/*"'
            raise DeclarationError(f"drops = {self.drops!r}", where="sources", cure=cure)
        if "/" in self.marker:
            raise DeclarationError(f"marker = {self.marker!r}", where="sources", cure='give a name, such as "_SUCCESS"')
        if self.freshness is not None and self.freshness <= timedelta(0):
            raise DeclarationError("freshness of no time", where="sources", cure='write it like "2d", or leave it out')

    @property
    def bucket(self) -> str:
        """The bucket it lies in; empty for folders."""
        found = _BUCKET.fullmatch(self.drops)
        return found[1] if found else ""

    @property
    def pattern(self) -> str:
        """The pattern below its bucket or the project's folder.

        >>> Source("s3://shop/landing/*").pattern
        'landing/*'
        """
        found = _BUCKET.fullmatch(self.drops)
        return found[2] if found else self.drops


@dataclass(frozen=True)
class Seen:
    """A drop as it lies there: its name (the path below the project's folder or the bucket), a ``stamp`` over its files' names, sizes
    and times, when the last of them changed (UTC microseconds), and whether its marker is there.
    """

    name: str
    stamp: str
    modified: int
    marked: bool = False


@dataclass(frozen=True)
class Fetched:
    """A private copy of a drop: the ``folder`` with a file per table, and the ``digest`` over what they hold."""

    folder: Path
    digest: str


class Drops(Protocol):
    """Where drops arrive: a folder, or a prefix of an object store."""

    def look(self, source: Source) -> tuple[Seen, ...]:
        """The drops there now, by name; one without files, or with a name that says it is not ready, is not there. Raises Unavailable."""
        ...

    def fetch(self, source: Source, seen: Seen, file: str | None) -> AbstractContextManager[Fetched | None]:
        """A copy as long as the context lasts, None when the drop is no longer the one ``seen``; ``file`` is what a drop of one file is
        called there. Raises InvalidInput, Unavailable.
        """
        ...


def is_ready(name: str) -> bool:
    """Whether a file or folder of this name may be looked at."""
    return not name.startswith((".", "_")) and not name.endswith(UNREADY)


def is_data(name: str) -> bool:
    """Whether a file of this name holds rows."""
    return is_ready(name) and name.endswith(SUFFIXES) and len(name.encode()) <= 255


def called(seen: Seen, file: str | None) -> str:
    """What the copy of a drop of one file is called. Raises InvalidInput when its table is unknown.

    >>> called(Seen("in/day-2024-06-30.csv", "", 0), "usage")
    'usage.csv'
    """
    if file is None:
        cure = "name the source like the file's table, or drop a folder with a file per table"
        raise InvalidInput(f"{seen.name} is one file of an unknown table", where="sources", cure=cure)
    return file + PurePosixPath(seen.name).suffix


def moment_of(source: Source, seen: Seen) -> datetime:
    """The moment a drop speaks of. Raises InvalidInput when its name does not say one.

    >>> moment_of(Source("in/*", as_of="month"), Seen("in/2024-06", "", 0)).isoformat()
    '2024-06-30T00:00:00+00:00'
    >>> moment_of(Source("in/*.csv"), Seen("in/usage_20240630T0600Z.csv", "", 0)).isoformat()
    '2024-06-30T06:00:00+00:00'
    """
    if source.as_of == "modified":
        return from_micros(seen.modified)
    pattern, example = (_MONTH, "2024-06") if source.as_of == "month" else (_MOMENT, "2024-06-30")
    for part in reversed(PurePosixPath(seen.name).parts):
        if found := pattern.search(part):
            numbers = [int(group) for group in found.groups() if group]
            try:
                return _end_of(*numbers) if source.as_of == "month" else datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type,misc]
            except ValueError:
                break
    raise InvalidInput(
        f"{seen.name} does not say the moment it speaks of", where="as_of", cure=f"call it something with {example}"
    )


def _end_of(year: int, month: int) -> datetime:
    """00:00 UTC of a month's last day."""
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return after - timedelta(days=1)


def complete(source: Source, seen: Seen, unchanged: timedelta) -> bool:
    """Whether a drop that has lain ``unchanged`` so long is whole, as far as one can tell.

    >>> complete(Source("in/*"), Seen("in/2024-06", "", 0), timedelta(seconds=3))
    True
    >>> complete(Source("in/*", marker="_SUCCESS"), Seen("in/2024-06", "", 0), timedelta(days=3))
    False
    """
    return seen.marked if source.marker else unchanged >= source.settle


def is_late(source: Source, newest: datetime, now: datetime) -> bool:
    """Whether the newest moment a source spoke of is older than it promised."""
    return source.freshness is not None and now - newest > source.freshness
