"""Snapshots as directories of Parquet files: ``<root>/<table>/<digest>/{rows.parquet, quarantine.parquet, manifest.json}`` (port Snapshots).

A snapshot is written beside its place, flushed, and moved there by one rename: it is there whole or not at all. Its manifest carries the
SHA-256 of both files, checked on the very bytes that are then parsed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ecluse.adapters.files import locked, make_directory, sync_directory, write_new
from ecluse.core.codec import canonical
from ecluse.core.errors import Corrupt, InvalidInput, NotFound, Unavailable
from ecluse.core.snapshot import Snapshot

FORMAT = 1
ROWS, QUARANTINE, MANIFEST = "rows.parquet", "quarantine.parquet", "manifest.json"
_TABLE, _DIGEST = re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"


class SnapshotsFiles:
    """Port Snapshots on a local disk. Directories 0700, files 0600; safe for several processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, table: str, digest: str, frame: pl.DataFrame, quarantined: pl.DataFrame, manifest: bytes) -> None:
        """Store rows, quarantined rows and manifest under the digest. The same again changes nothing; other content under the same digest
        (left by an ingest that ended before it was recorded) is replaced. Raises Unavailable: then nothing has changed.
        """
        place = self._place(table, digest)
        files = {ROWS: _parquet(frame), QUARANTINE: _parquet(quarantined)}
        files[MANIFEST] = _manifest(manifest, files)
        make_directory(place.parent)
        with locked(place.parent / ".lock"):
            try:
                _clear(place.parent)
                if not _holds(place, files[MANIFEST]):
                    _put(place, files)
            except OSError as error:
                raise Unavailable(
                    f"snapshot {digest[:12]} of {table} cannot be written: {error.strerror or error}",
                    where=str(place.parent),
                    cure="check space and rights, then ingest again: nothing was changed",
                ) from None

    def read(self, snapshot: Snapshot) -> pl.DataFrame:
        """The typed rows. Raises NotFound, Corrupt."""
        return self._read(snapshot, ROWS)

    def quarantined(self, snapshot: Snapshot) -> pl.DataFrame:
        """The refused rows with ``__row`` and ``__reasons``. Raises NotFound, Corrupt."""
        return self._read(snapshot, QUARANTINE)

    def manifest(self, snapshot: Snapshot) -> dict[str, Any]:
        """What was recorded with the rows. Raises NotFound, Corrupt."""
        content = _open_manifest(self._place(snapshot.table, snapshot.digest))["snapshot"]
        assert isinstance(content, dict)
        return content

    def _read(self, snapshot: Snapshot, name: str) -> pl.DataFrame:
        place = self._place(snapshot.table, snapshot.digest)
        sha, size = _open_manifest(place)["files"][name]
        try:
            data = (place / name).read_bytes()
        except FileNotFoundError:
            raise _corrupt(place, f"{name} is gone") from None
        except OSError as error:
            raise Unavailable(f"{name} cannot be read: {error}", where=str(place), cure="check the disk") from None
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha:
            raise _corrupt(place, f"{name} is not what its manifest says")
        return pl.read_parquet(io.BytesIO(data))

    def _place(self, table: str, digest: str) -> Path:
        if not _TABLE.fullmatch(table) or not _DIGEST.fullmatch(digest):
            raise InvalidInput(f"snapshot {digest!r} of {table!r}", cure="name it by its table and SHA-256 digest")
        return self._root / table / digest


def _parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def _manifest(content: bytes, files: Mapping[str, bytes]) -> bytes:
    named = {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    return canonical({"format": FORMAT, "snapshot": json.loads(content), "files": named})


def _open_manifest(place: Path) -> dict[str, Any]:
    try:
        read = json.loads((place / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"snapshot {place.name[:12]} of {place.parent.name}",
            where=str(place),
            cure="restore the directory from a backup",
        ) from None
    except OSError as error:
        raise Unavailable(f"{MANIFEST} cannot be read: {error}", where=str(place), cure="check the disk") from None
    except ValueError:
        raise _corrupt(place, f"{MANIFEST} is no JSON") from None
    if not isinstance(read, dict) or read.get("format") != FORMAT or {ROWS, QUARANTINE} - set(read.get("files", ())):
        raise _corrupt(place, f"{MANIFEST} is not of format {FORMAT}")
    return read


def _corrupt(place: Path, what: str) -> Corrupt:
    cure = "restore the directory from a backup; nothing is trained on it until then"
    return Corrupt(f"snapshot {place.name[:12]} of {place.parent.name}: {what}", where=str(place), cure=cure)


def _holds(place: Path, manifest: bytes) -> bool:
    try:
        return (place / MANIFEST).read_bytes() == manifest
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    """Remove what a writer that was killed left unfinished; called by the one who holds the folder's lock."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left)


def _put(place: Path, files: Mapping[str, bytes]) -> None:
    beside = place.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
    beside.mkdir(mode=0o700)
    try:
        for name, data in files.items():
            write_new(beside / name, data)
        sync_directory(beside)
        if place.exists():
            place.rename(place.parent / f"{_UNFINISHED}{secrets.token_hex(8)}")
        beside.rename(place)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_directory(place.parent)
    _clear(place.parent)
