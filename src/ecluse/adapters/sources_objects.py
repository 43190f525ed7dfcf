"""Drops below a prefix of a bucket: seen by names, sizes, times and tags, downloaded before they are read. The only importer of ``obstore``.

Where the store is and who asks stands in the environment, as its other clients read it (``AWS_ENDPOINT_URL``, ``AWS_REGION``,
``AWS_ACCESS_KEY_ID`` …). What a store answers to a refused request may hold parts of that: it is never repeated.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ecluse.adapters.sources_files import staged
from ecluse.core.codec import digest
from ecluse.core.errors import InvalidInput, Unavailable
from ecluse.core.instants import to_micros
from ecluse.core.source import Fetched, Seen, Source, called, is_data, is_ready

try:
    import obstore
    from obstore.exceptions import BaseError, InvalidPathError
    from obstore.store import S3Store
except ImportError as _error:
    raise Unavailable(f"obstore is not installed: {_error}", cure="pip install 'ecluse[objects]'") from _error

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig

T = TypeVar("T")
CONNECT, SILENCE = timedelta(seconds=3), timedelta(seconds=10)
"""How long a store may take to take a connection, and to say nothing in the middle of an answer."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
NOWHERE = "http://127.0.0.1:0"
ROLES = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "amazonaws.com")
"""Where credentials are asked for that do not stand in the environment themselves."""


@dataclass(frozen=True)
class Limits:
    """What one look and one copy may take: objects below a prefix, bytes of a drop, seconds."""

    objects: int = 100_000
    drop_bytes: int = 4 << 30
    look_seconds: float = 30.0
    copy_seconds: float = 600.0


@dataclass(frozen=True)
class DropObjects:
    """Port Drops: ``source.pattern`` is a glob pattern over the keys of ``source.bucket``; copies lie under ``staging``."""

    staging: Path
    limits: Limits = field(default_factory=Limits)
    _stores: dict[str, S3Store] = field(default_factory=dict)

    def look(self, source: Source) -> tuple[Seen, ...]:
        """See the port. Linear in the objects below the part of the pattern without a wildcard."""
        prefix, limits = _prefix(source.pattern), self.limits
        listed = self._ask(source.bucket, limits.look_seconds, lambda store: _list(store, prefix, limits.objects))
        keys = {each["path"] for each in listed}
        return tuple(_seen(name, files, source.marker, keys) for name, files in sorted(_drops(source, listed).items()))

    @contextmanager
    def fetch(self, source: Source, seen: Seen, file: str | None) -> Iterator[Fetched | None]:
        """See the port. Raises InvalidInput for one file where a folder is meant, and for a drop beyond the limit."""
        limits = self.limits
        with staged(self.staging) as folder:
            yield self._ask(source.bucket, limits.copy_seconds, lambda store: _fetch(store, seen, file, folder, limits))

    def _ask(self, bucket: str, seconds: float, work: Callable[[S3Store], Coroutine[Any, Any, T]]) -> T:
        """What a bucket answers. Raises Unavailable, in words of our own."""
        where = f"s3://{bucket}"
        try:
            store = self._stores.get(bucket) or self._stores.setdefault(bucket, _open(bucket, self.limits))
            return asyncio.run(asyncio.wait_for(work(store), seconds))
        except TimeoutError:
            raise Unavailable(f"the store was not done within {seconds:g} s", where=where) from None
        except InvalidPathError as error:
            cure = "remove or rename the object: no name may be empty, `.` or `..`, or hold control characters"
            raise Unavailable(str(error).partition("\n")[0], where=where, cure=cure) from None
        except (BaseError, ValueError) as error:
            cure = "check AWS_ENDPOINT_URL (http:// only with AWS_ALLOW_HTTP=true), AWS_REGION and the credentials"
            raise Unavailable(_why(error), where=where, cure=cure) from None


def _open(bucket: str, limits: Limits) -> S3Store:
    options: ClientConfig = {
        "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"),
        "connect_timeout": CONNECT,
        "read_timeout": SILENCE,
        "timeout": timedelta(seconds=limits.copy_seconds),
    }
    # The client follows redirects. With every other host behind a proxy that is not there, they lead nowhere.
    if not any(name.lower() in PROXIES and value for name, value in os.environ.items()):
        options |= {"proxy_url": NOWHERE, "proxy_excludes": ",".join(_hosts())}
    return S3Store(bucket, client_options=options, retry_config={"max_retries": 1, "retry_timeout": CONNECT})


def _hosts() -> list[str]:
    """The hosts that may be asked."""
    known = os.environ
    endpoint = known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL") or known.get("AWS_ENDPOINT")
    hosts = [urlsplit(endpoint).hostname or ""] if endpoint else ["amazonaws.com", "amazonaws.com.cn"]
    if "AWS_ACCESS_KEY_ID" not in known:
        hosts += [*ROLES, urlsplit(known.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")).hostname or ""]
    return [host for host in hosts if host]


def _why(error: Exception) -> str:
    found = re.search(r"status code: (\d{3})", str(error))
    if found is None:
        return "the store cannot be reached"
    known = {"401": "the store refuses the credentials", "403": "the store refuses", "404": "there is no such bucket"}
    return known.get(found[1], f"the store answers {found[1]}")


async def _list(store: S3Store, prefix: str, most: int) -> list[ObjectMeta]:
    found: list[ObjectMeta] = []
    async for some in obstore.list(store, prefix or None, chunk_size=1_000):
        found += some
        if len(found) > most:
            cure = "make the part of the pattern before its first wildcard longer, or move away what was taken"
            raise Unavailable(f"more than {most:,} objects below `{prefix}`", where="sources", cure=cure)
    return found


async def _fetch(store: S3Store, seen: Seen, file: str | None, folder: Path, limits: Limits) -> Fetched | None:
    try:
        files = await _files(store, seen.name, limits.objects)
        single = called(seen, file) if files[0]["path"] == seen.name else ""
        if (size := sum(each["size"] for each in files)) > limits.drop_bytes:
            raise InvalidInput(
                f"{seen.name} holds {size:,} bytes", cure=f"deliver at most {limits.drop_bytes:,} at once"
            )
        names = {single or PurePosixPath(each["path"]).name: each for each in files}
        taken = {name: await _copy(store, each, folder / name) for name, each in names.items()}
        now = await _files(store, seen.name, limits.objects)
    except FileNotFoundError:
        return None
    return Fetched(folder, digest(taken)) if _stamp(files) == seen.stamp == _stamp(now) else None


async def _files(store: S3Store, name: str, most: int) -> list[ObjectMeta]:
    """The data files of a drop now: those directly below it, or itself. Raises FileNotFoundError."""
    below = (each for each in await _list(store, name, most) if _is_file_of(PurePosixPath(each["path"]), name))
    return sorted(below, key=lambda each: each["path"]) or [await obstore.head_async(store, name)]


def _is_file_of(path: PurePosixPath, drop: str) -> bool:
    return is_data(path.name) and str(path.parent) == drop


async def _copy(store: S3Store, known: ObjectMeta, target: Path) -> str:
    """Download an object and return the digest of the very bytes written. Raises FileNotFoundError when another lies there now."""
    answer = await obstore.get_async(store, known["path"])
    if _facts(answer.meta) != _facts(known):
        raise FileNotFoundError(known["path"])
    taken, left = hashlib.sha256(), known["size"]
    with target.open("wb") as copy:
        async for piece in answer.stream(min_chunk_size=1 << 20):
            left -= len(piece)
            if left < 0:
                break
            taken.update(piece)
            copy.write(piece)
    if left:
        raise Unavailable(f"the store sent another number of bytes of {known['path']} than it says it holds")
    return taken.hexdigest()


def _drops(source: Source, listed: Iterable[ObjectMeta]) -> dict[str, list[ObjectMeta]]:
    """Drop -> its files: an object that matches the pattern, or those directly below a name that does."""
    pattern = source.pattern.split("/")
    found: dict[str, list[ObjectMeta]] = {}
    for each in listed:
        path = PurePosixPath(each["path"])
        for drop in (path, path.parent) if is_data(path.name) else ():
            if drop.name and is_ready(drop.name) and _matches(pattern, drop.parts):
                found.setdefault(str(drop), []).append(each)
    return found


def _matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """As ``Path.glob`` would.

    >>> _matches(["in", "*"], ["in", "2024-06-30"]), _matches(["in", "*"], ["in", "2024-06-30", "usage.csv"])
    (True, False)
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(pattern[1:], parts[first:]) for first in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(pattern[1:], parts[1:])


def _prefix(pattern: str) -> str:
    """The folders before the first wildcard.

    >>> _prefix("landing/usage/*.parquet")
    'landing/usage'
    """
    folders = pattern.split("/")[:-1]
    wild = (index for index, each in enumerate(folders) if any(sign in each for sign in "*?["))
    return "/".join(folders[: next(wild, len(folders))])


def _seen(name: str, files: Sequence[ObjectMeta], marker: str, keys: set[str]) -> Seen:
    modified = max(to_micros(each["last_modified"]) for each in files)
    beside = f"{name}{marker}" if files[0]["path"] == name else f"{name}/{marker}"
    return Seen(name, _stamp(files), modified, bool(marker) and beside in keys)


def _stamp(files: Iterable[ObjectMeta]) -> str:
    return digest(sorted(_facts(each) for each in files))


def _facts(each: ObjectMeta) -> list[Any]:
    """What is told of an object the same way in a list and in an answer."""
    return [each["path"], each["size"], int(each["last_modified"].timestamp()), (each["e_tag"] or "").strip('"')]
