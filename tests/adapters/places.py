"""Where drops may arrive, as tests fill them: folders, or a bucket of a real object store. What is promised holds for both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tests.adapters.object_store import ObjectStore

from ecluse.adapters.sources_files import DropFolders
from ecluse.adapters.sources_objects import DropObjects
from ecluse.core.source import Drops, Source


class Place(Protocol):
    """One place, and the adapter that looks at it."""

    drops: Drops

    def at(self, source: Source) -> Source:
        """The same source here."""
        ...

    def put(self, name: str, content: str | bytes) -> None:
        """A file that was not there, or that is written again."""
        ...

    def remove(self, name: str) -> None: ...


@dataclass
class Folders:
    root: Path
    drops: Drops

    def at(self, source: Source) -> Source:
        return source

    def put(self, name: str, content: str | bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()


@dataclass
class Bucket:
    store: ObjectStore
    name: str
    drops: Drops

    def at(self, source: Source) -> Source:
        return replace(source, drops=f"s3://{self.name}/{source.drops}")

    def put(self, name: str, content: str | bytes) -> None:
        self.store.put(self.name, name, content)

    def remove(self, name: str) -> None:
        self.store.remove(self.name, name)


def folders(root: Path) -> Place:
    return Folders(root, DropFolders(root, root / "staging"))


def bucket(store: ObjectStore, name: str, root: Path) -> Place:
    """A new bucket: what is written first makes it."""
    store.put(name, "made", "")
    return Bucket(store, name, DropObjects(root / "staging"))
