"""Drops in folders below the project's: seen by names, sizes and times, copied before they are read, so that what was digested is ingested."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecluse.adapters.files import disk, make_directory
from ecluse.core.codec import digest
from ecluse.core.source import Fetched, Seen, Source, called, is_data, is_ready


@dataclass(frozen=True)
class DropFolders:
    """Port Drops: ``source.pattern`` is a glob pattern below ``root``; copies lie under ``staging`` as long as they are needed."""

    root: Path
    staging: Path

    def look(self, source: Source) -> tuple[Seen, ...]:
        """See the port. Linear in the files that lie there."""
        with disk(self.root):
            paths = sorted(path for path in self.root.glob(source.pattern) if is_ready(path.name))
            return tuple(seen for path in paths if (seen := _seen(self.root, path, source.marker)) is not None)

    @contextmanager
    def fetch(self, source: Source, seen: Seen, file: str | None) -> Iterator[Fetched | None]:
        """See the port. Raises InvalidInput for one file where a folder is meant."""
        path = self.root / seen.name
        with disk(path), staged(self.staging) as folder:
            single = called(seen, file) if path.is_file() else ""
            try:
                names = {single or each.name: each for each in _files(path)}
                taken = {name: _copy(each, folder / name) for name, each in names.items()}
                now = _seen(self.root, path, source.marker)
            except FileNotFoundError:
                now = None
            yield Fetched(folder, digest(taken)) if now is not None and now.stamp == seen.stamp else None


@contextmanager
def staged(staging: Path) -> Iterator[Path]:
    """An empty folder for a private copy, as long as the context lasts. Raises Unavailable."""
    make_directory(staging)
    with disk(staging), tempfile.TemporaryDirectory(prefix="drop-", dir=staging) as name:
        yield Path(name)


def tidy(staging: Path) -> None:
    """Remove copies a killed process left; to be called while no other process fetches. Raises Unavailable."""
    with disk(staging):
        for path in staging.glob("drop-*"):
            shutil.rmtree(path)


def _files(path: Path) -> list[Path]:
    """The data files of a drop: itself, or those in the folder. Never a link's target, a pipe or a device."""
    every = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
    return [each for each in every if is_data(each.name) and _is_plain(each)]


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _seen(root: Path, path: Path, marker: str) -> Seen | None:
    """None while there is no file in it."""
    try:
        facts = [(each.name, each.stat()) for each in _files(path)]
    except (FileNotFoundError, NotADirectoryError):
        return None  # it was just taken away
    if not facts:
        return None
    marked = bool(marker) and (path / marker if path.is_dir() else path.with_name(path.name + marker)).exists()
    stamp = digest([[name, each.st_size, each.st_mtime_ns, each.st_ino] for name, each in facts])
    modified = max(each.st_mtime_ns for _, each in facts) // 1_000
    return Seen(path.relative_to(root).as_posix(), stamp, modified, marked)


def _copy(path: Path, target: Path) -> str:
    """Copy a file and return the digest of the very bytes written."""
    taken = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as source, target.open("wb") as copy:
        while piece := source.read(1 << 20):
            taken.update(piece)
            copy.write(piece)
    return taken.hexdigest()
