"""The published document as a file, ``published.json``: replaced as a whole, never by an older generation."""

from __future__ import annotations

import json
from pathlib import Path

from ecluse.adapters.files import locked, make_directory, read_file, write_atomic
from ecluse.adapters.wishes_files import DIRECTORY as WISHES
from ecluse.adapters.wishes_files import WishFiles
from ecluse.core.codec import canonical, from_plain
from ecluse.core.document import Document, Signed
from ecluse.core.errors import Conflict, Corrupt, DeclarationError, NotFound
from ecluse.core.failpoint import failpoint
from ecluse.core.wish import Wish

FILE = "published.json"


class PublisherFiles:
    """Publishes into a directory; workers of this host read the file."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._wishes = WishFiles(home / WISHES)

    def publish(self, document: Document, signed: Signed) -> None:
        """Put the document there unless a newer one is. Raises Conflict (another document of this generation), Unavailable."""
        make_directory(self._path.parent)
        with locked(self._path.with_suffix(".lock")):
            failpoint("publisher.locked")
            there = self._there()
            if there is not None and (generation := _generation(there)) is not None:
                if generation > document.generation or there == signed:
                    return
                if generation == document.generation:
                    raise Conflict(
                        f"another document of generation {generation} is published",
                        where=str(self._path),
                        cure="take the next generation",
                    )
            write_atomic(
                self._path,
                canonical(signed),
                before=lambda: failpoint("publisher.before_rename"),
                after=lambda: failpoint("publisher.after_rename"),
            )

    def current(self) -> Signed | None:
        """The document as published, its signature not checked. Raises Corrupt, Unavailable."""
        try:
            data = read_file(self._path)
        except NotFound:
            return None
        try:
            return from_plain(Signed, json.loads(data), where=FILE)
        except (ValueError, RecursionError, DeclarationError):
            raise Corrupt(
                "the published document cannot be read",
                where=str(self._path),
                cure="publish it again: any release command does",
            ) from None

    def wishes(self) -> tuple[Wish, ...]:
        """What callers asked workers for, undecided. Raises Unavailable."""
        return self._wishes.pending()

    def decided(self, wish: Wish) -> None:
        """Forget a wish. Raises Unavailable."""
        self._wishes.done(wish)

    def _there(self) -> Signed | None:
        try:
            return self.current()
        except Corrupt:
            return None  # garbage is no generation: what is published now heals it


def _generation(signed: Signed) -> int | None:
    try:
        found = json.loads(signed.payload)["generation"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None
