"""``serve.lock`` of a profile's home: one server at a time, and where it listens."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ecluse.core.errors import Conflict, Unavailable

FILE = "serve.lock"


class ServeLock:
    """Held as long as this process lives, or any that was given :attr:`descriptor`; it ends at a kill -9 too."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Self:
        """Raises Conflict (another server), Unavailable."""
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 1_000, 0).decode(errors="replace")
            os.close(lock)
            raise Conflict(
                f"a server of this project is running already: {holder or 'it is starting'}",
                where=str(path),
                cure="stop it first",
            ) from None
        except OSError as error:
            raise Unavailable(f"{error.strerror}", where=str(path), cure="check the disk and its permissions") from None
        return cls(lock)

    def tell(self, facts: Mapping[str, object]) -> None:
        """Write where the server is to be found."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(facts).encode(), 0)

    def close(self) -> None:
        """Let go."""
        os.close(self.descriptor)
