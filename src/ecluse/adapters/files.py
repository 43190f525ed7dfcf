"""Files that are whole or absent: private directories, atomic writes, reads that refuse links; every refusal of the disk is Unavailable."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from ecluse.core.errors import Corrupt, NotFound, Unavailable


@contextlib.contextmanager
def disk(where: Path) -> Iterator[None]:
    """Within, an OSError becomes Unavailable naming ``where``."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.strerror or error}", where=str(where), cure="free or repair the disk, then try again"
        ) from error


def make_directory(path: Path) -> None:
    """The directory (and its parents), for its owner alone. Raises Unavailable."""
    if path.is_dir():
        return
    with disk(path):
        missing = [path, *(parent for parent in path.parents if not parent.exists())]
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                each.mkdir(mode=0o700)
                sync_directory(each.parent)


def sync_directory(path: Path) -> None:
    """Make names created or replaced in a directory outlive a loss of power. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_new(path: Path, data: bytes) -> None:
    """A file of mode 0600 that did not exist, with all bytes on the disk. Raises OSError; leaves nothing half-written of that name."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write_atomic(
    path: Path, data: bytes, *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> None:
    """Replace a file as a whole: a reader finds the old bytes or the new ones. Raises Unavailable.

    ``before`` and ``after`` are called around the rename.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with disk(path):
        try:
            write_new(temporary, data)
            before()
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        after()
        sync_directory(path.parent)


def read_file(path: Path) -> bytes:
    """All bytes of a plain file. Raises NotFound, Corrupt for a link, Unavailable."""
    if path.is_symlink():
        raise Corrupt("a link stands where a file should be", where=str(path), cure="remove it")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no file {path.name}", where=str(path.parent)) from None
    except OSError as error:
        raise Unavailable(f"{error.strerror}", where=str(path)) from error
    with disk(path), os.fdopen(fd, "rb") as file:
        return file.read()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file for this process and thread alone; the lock goes with the process, also at a kill -9. Raises Unavailable."""
    with disk(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with disk(path):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
