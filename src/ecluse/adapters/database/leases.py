"""Leases in the state's file, and the state as seen through one: every write asks for its token first, in the same transaction."""

from __future__ import annotations

import contextlib
import copy
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ecluse.adapters.database import queries
from ecluse.adapters.database.connection import Database
from ecluse.core.errors import Conflict
from ecluse.core.lease import Lease

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class LeaseTable:
    """Port Leases; the part of the state that gives rights for a time."""

    _database: Database

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease under a new token when it is free or has ended, its process is dead, or it is ours; else None."""
        now, boot, process = seconds_since_boot(), _boot(), _process(os.getpid())
        with self._database.write() as connection:
            row = connection.execute(queries.LEASE, (name,)).fetchone()
            token, held_by, held_process, held_boot, until = row or (0, "", "", boot, now)
            ours = (held_by, held_process) == (holder, process)
            lives = held_boot == boot and now < until and _process(int(held_process.split()[0])) == held_process
            if held_by and not ours and lives:
                return None
            connection.execute(queries.SET_LEASE, (name, holder, token + 1, process, boot, now + seconds))
        return Lease(name, holder, token + 1, seconds)

    def renew_lease(self, lease: Lease) -> bool:
        """``seconds`` more from now; False when its token is no longer the newest."""
        with self._database.write() as connection:
            later = (seconds_since_boot() + lease.seconds, lease.name, lease.token, lease.holder)
            return connection.execute(queries.RENEW_LEASE, later).rowcount > 0

    def release_lease(self, lease: Lease) -> None:
        """Free it; nothing when it was lost."""
        with self._database.write() as connection:
            connection.execute(queries.FREE_LEASE, (lease.name, lease.token))

    def fenced(self, lease: Lease) -> Self:
        """The same state, whose writes raise Conflict once another token was given."""
        seen = copy.copy(self)
        seen._database = _Fenced(self._database, lease)
        return seen


class _Fenced(Database):
    """The database behind a lease."""

    def __init__(self, inner: Database, lease: Lease) -> None:
        super().__init__(inner.path)
        self._busy, self._local, self._lease = inner._busy, inner._local, lease

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, begun by asking for the token."""
        with super().write() as connection:
            (token, *_) = connection.execute(queries.LEASE, (self._lease.name,)).fetchone() or (0,)
            if token != self._lease.token:
                raise Conflict(
                    f"the lease on {self._lease.name} was lost: token {self._lease.token}, now {token}",
                    where=self._lease.holder,
                    cure="another process took over: nothing of this one was written",
                )
            yield connection


def seconds_since_boot() -> float:
    """Seconds since the machine started, sleep included, the same in all its processes."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _process(pid: int) -> str:
    """A process among all that ever had its number: the number and, where the system tells, when it began; empty when it is dead."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # another user's, and alive
    except OSError:
        return ""
    with contextlib.suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/stat').read_text(encoding='ascii', errors='replace').rpartition(')')[2].split()[19]}"
    return str(pid)


def _boot() -> str:
    """Which start of the machine this is; empty where the system does not say."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
