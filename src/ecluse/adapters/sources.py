"""Where drops arrive: each source in folders of the project or in a bucket, as its declaration says. The library of the latter loads when needed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ecluse.adapters.sources_files import DropFolders, tidy
from ecluse.core.source import Drops, Fetched, Seen, Source


@dataclass(frozen=True)
class DropPlaces:
    """Port Drops over two others."""

    folders: Drops
    objects: Drops

    def look(self, source: Source) -> tuple[Seen, ...]:
        """See the port."""
        return self._of(source).look(source)

    def fetch(self, source: Source, seen: Seen, file: str | None) -> AbstractContextManager[Fetched | None]:
        """See the port."""
        return self._of(source).fetch(source, seen, file)

    def _of(self, source: Source) -> Drops:
        return self.objects if source.bucket else self.folders


def open_drops(root: Path, staging: Path, sources: Iterable[Source]) -> Drops:
    """What the sources of a project need; copies a killed process left are removed, so no other may fetch. Raises Unavailable."""
    tidy(staging)
    folders = DropFolders(root, staging)
    if not any(source.bucket for source in sources):
        return folders
    from ecluse.adapters.sources_objects import DropObjects

    return DropPlaces(folders, DropObjects(staging))
