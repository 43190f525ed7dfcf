"""Bundles as directories of files: ``<digest>/`` holds what the digest covers, ``<digest>.beside/`` the seal and what came after."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from ecluse.adapters.files import disk, locked, make_directory, read_file, sync_directory, write_atomic, write_new
from ecluse.core.bundle import Bundle, open_bundle
from ecluse.core.codec import canonical, from_plain
from ecluse.core.document import Signed
from ecluse.core.errors import Corrupt, DeclarationError, InvalidInput, NotFound

MANIFEST = "manifest.json"
SEAL = "seal.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_CURE = "restore the bundle or train again"
_GONE = "it was pruned, or made elsewhere: train again"


class BundlesFiles:
    """Bundles under one directory. Writers take turns under a lock; readers need none, since a directory appears whole."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, bundle: Bundle, seal: Signed) -> None:
        """Store bundle and seal. The same digest again changes nothing, unless the stored bytes are damaged: then it heals them.

        Raises InvalidInput when the seal is of another bundle, Unavailable.
        """
        digest = bundle.digest
        if seal.payload != digest:
            raise InvalidInput(f"the seal is not of bundle {digest[:12]}", cure="sign the bundle's digest")
        make_directory(self._root)
        with locked(self._root / ".lock"), disk(self._root):
            self._sweep()
            if self._is_whole(digest):
                return
            make_directory(self.beside(digest))
            write_atomic(self.beside(digest) / SEAL, canonical(seal))
            temporary = self._temporary()
            write_new(temporary / MANIFEST, canonical(bundle.manifest))
            for name, data in bundle.files.items():
                write_new(temporary / name, data)
            sync_directory(temporary)
            self._remove(self.directory(digest))
            temporary.rename(self.directory(digest))
            sync_directory(self._root)

    def get(self, digest: str) -> Bundle:
        """The bundle, every byte read once and checked against the digest. Raises Corrupt, NotFound, Unavailable."""
        directory = self.directory(digest)
        with disk(directory):
            if not directory.is_dir():
                raise NotFound(f"bundle {digest[:12]}", where=str(self._root), cure=_GONE)
            names = sorted(each.name for each in directory.iterdir())
        try:
            files = {name: read_file(directory / name) for name in names}
            return open_bundle(digest, files.pop(MANIFEST, b""), files)
        except (DeclarationError, NotFound):  # a format we do not know, or a file that went while we read
            raise Corrupt(f"bundle {digest[:12]} cannot be read", where=str(directory), cure=_CURE) from None

    def seal(self, digest: str) -> Signed:
        """The seal, its signature not checked. Raises NotFound, Corrupt, Unavailable."""
        try:
            seal = from_plain(Signed, json.loads(self.read_beside(digest, SEAL)), where=SEAL)
        except (ValueError, DeclarationError):
            raise Corrupt(
                f"the seal of bundle {digest[:12]} cannot be read", where=str(self._root), cure=_CURE
            ) from None
        if seal.payload != digest:
            raise Corrupt(f"the seal beside bundle {digest[:12]} is of another", where=str(self._root), cure=_CURE)
        return seal

    def delete(self, digest: str) -> None:
        """Remove a bundle and its seal; what else lies beside it stays. Nothing when it is gone already. Raises Unavailable."""
        if not self._root.is_dir():
            return
        with locked(self._root / ".lock"), disk(self._root):
            self._sweep()
            (self.beside(digest) / SEAL).unlink(missing_ok=True)
            self._remove(self.directory(digest))
            sync_directory(self._root)

    def write_beside(self, digest: str, name: str, data: bytes, *, keep: int | None = None) -> Path:
        """Store a file beside a bundle; with ``keep``, of those called alike up to the first dot only the newest so many stay.

        Raises InvalidInput for a name that is not plain, Unavailable.
        """
        path = self._beside_file(digest, name)
        if name == SEAL:
            raise InvalidInput(f"{name} is written by `put` alone", where=str(path.parent), cure="choose another name")
        make_directory(path.parent)
        write_atomic(path, data)
        if keep is not None:
            with disk(path):
                alike = [each for each in path.parent.iterdir() if each.name.startswith(f"{name.partition('.')[0]}.")]
                for each in _newest_first(alike)[max(keep, 1) :]:
                    each.unlink(missing_ok=True)
        return path

    def read_beside(self, digest: str, name: str) -> bytes:
        """A file beside a bundle. Raises NotFound, Corrupt for a link, Unavailable."""
        try:
            return read_file(self._beside_file(digest, name))
        except NotFound as error:
            raise NotFound(error.what, where=error.where, cure=_GONE) from None

    def directory(self, digest: str) -> Path:
        """Where a bundle's own files lie. Raises InvalidInput."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(f"{digest!r} is not a bundle's digest", cure="give 64 hex digits")
        return self._root / digest

    def beside(self, digest: str) -> Path:
        """Where files beside a bundle lie. Raises InvalidInput."""
        return self.directory(digest).with_name(f"{digest}.beside")

    def _beside_file(self, digest: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} is not a plain file name", cure="use letters, digits, _ . and -")
        return self.beside(digest) / name

    def _is_whole(self, digest: str) -> bool:
        try:
            self.get(digest)
            self.seal(digest)
        except (NotFound, Corrupt):
            return False
        return True

    def _temporary(self) -> Path:
        path = self._root / f".tmp-{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        return path

    def _remove(self, path: Path) -> None:
        """Out of sight in one step, then away."""
        if path.exists():
            hidden = self._temporary() / path.name
            path.rename(hidden)
            shutil.rmtree(hidden.parent)

    def _sweep(self) -> None:
        """What a killed writer left half-made; called under the lock, so nobody is writing it."""
        for path in self._root.glob(".tmp-*"):
            shutil.rmtree(path)


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    """By when they were written; those that another process deleted meanwhile are left out."""
    written = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            written.append((path.stat().st_mtime_ns, path.name, path))
    return [path for _, _, path in sorted(written, reverse=True)]
