"""Wishes as files, one for each model: workers write, the control plane reads and removes. The newest wish of a model stands."""

from __future__ import annotations

import json
from pathlib import Path

from ecluse.adapters.files import disk, make_directory, read_file, write_atomic
from ecluse.core.codec import canonical, digest_bytes, from_plain
from ecluse.core.errors import Corrupt, DeclarationError, NotFound
from ecluse.core.wish import Wish

DIRECTORY = "wishes"


class WishFiles:
    """The wishes in ``directory``, which is made when the first is written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, wish: Wish) -> None:
        """Record a wish; it is on the disk when this returns. Raises Unavailable."""
        make_directory(self._directory)
        write_atomic(self._path(wish.model), canonical(wish))

    def pending(self) -> tuple[Wish, ...]:
        """Every wish recorded, by model; what cannot be read as one is removed. Raises Unavailable."""
        found = []
        with disk(self._directory):
            paths = sorted(self._directory.glob("*.json")) if self._directory.is_dir() else []
        for path in paths:
            try:
                found.append(from_plain(Wish, json.loads(read_file(path)), where=path.name))
            except (ValueError, DeclarationError, Corrupt):
                with disk(path):
                    path.unlink(missing_ok=True)
            except NotFound:
                continue
        return tuple(sorted(found, key=lambda wish: wish.model))

    def done(self, wish: Wish) -> None:
        """Forget a wish that was decided, unless another took its place meanwhile. Raises Unavailable."""
        if wish in self.pending():
            with disk(self._directory):
                self._path(wish.model).unlink(missing_ok=True)

    def _path(self, model: str) -> Path:
        return self._directory / f"{digest_bytes(model.encode())[:32]}.json"  # a model's name is no file's
