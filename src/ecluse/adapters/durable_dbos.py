"""Durable work on DBOS: what was begun outlives its process. The only importer of dbos.

A workflow's status and the results of its steps lie in ``loop.db``; after a kill the next launch takes pending workflows up again and runs
only the steps that had not ended. Values are JSON, never pickle. One process per profile at a time: DBOS would take what another running
process does for abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ecluse.adapters.files import disk, make_directory
from ecluse.core import errors
from ecluse.core.errors import Conflict, EcluseError, Unavailable
from ecluse.core.ports import Step

FILE, LOCK = "loop.db", "loop.lock"
VERSION = "ecluse-1"
"""Fixed, because DBOS recovers only workflows of its own application version: a release of ours must not orphan what an older one began."""

Work = Callable[..., Any]
"""(step, *arguments) -> JSON values."""

_ENDED_BADLY = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


class DurableRunner:
    """Port Durable. Open it with :meth:`launch`; the names of the works must be known then, so that what is pending can go on."""

    def __init__(self, flows: Mapping[str, Callable[..., Any]]) -> None:
        self._flows = flows
        self._attempts: dict[str, int] = {}  # which attempt of a work came last: those before are not asked about again

    @classmethod
    @contextlib.contextmanager
    def launch(cls, home: Path, works: Mapping[str, Work]) -> Iterator[DurableRunner]:
        """A running DBOS over ``home/loop.db``; pending works go on in the background at once. Raises Conflict when another process of the
        profile runs one, Unavailable when the database cannot be opened.
        """
        make_directory(home)
        with _alone(home / LOCK):
            _check(home / FILE)
            from dbos import DBOS, DBOSPortableJSONSerializer

            DBOS(
                config={
                    "name": "ecluse",
                    "system_database_url": f"sqlite:///{home / FILE}",
                    "application_version": VERSION,
                    "executor_id": "local",
                    "serializer": DBOSPortableJSONSerializer(),
                    "enable_otlp": False,
                    "log_level": "CRITICAL",  # errors reach the caller as exceptions
                    "scheduler_polling_interval_sec": 3_600.0,  # no schedules here
                }
            )
            try:
                flows = {name: DBOS.workflow(name=f"ecluse.{name}")(_flow(work)) for name, work in works.items()}
                DBOS.launch()
                yield cls(flows)
            finally:
                DBOS.destroy(destroy_registry=True)

    def run(self, workflow_id: str, name: str, *args: Any) -> Any:
        """Do the named work once per id; see ``core.ports.Durable``. Raises what the work raises, after a restart by class and message."""
        from dbos import DBOS, SetWorkflowID

        attempt = self._attempts.get(workflow_id, 1)
        chosen = _name(workflow_id, attempt)
        while (status := DBOS.get_workflow_status(chosen)) is not None and status.status in _ENDED_BADLY:
            self._attempts[workflow_id] = attempt = attempt + 1
            chosen = _name(workflow_id, attempt)
        with SetWorkflowID(chosen):
            handle = DBOS.start_workflow(self._flows[name], *args)
        try:
            return handle.get_result(polling_interval_sec=0.05)
        except EcluseError:
            raise
        except Exception as error:
            raise _translated(error) from error


def _name(workflow_id: str, attempt: int) -> str:
    return workflow_id if attempt == 1 else f"{workflow_id}.{attempt}"


def _flow(work: Work) -> Callable[..., Any]:
    def flow(*args: Any) -> Any:
        return work(_step, *args)

    return flow


def _step(name: str, function: Callable[[], Any]) -> Any:
    from dbos import DBOS

    return DBOS.run_step({"name": name}, function)


_: Step = _step


def _translated(error: Exception) -> Exception:
    """An error that was read back from the database, as the class it was; any other as it is."""
    kind = getattr(errors, str(getattr(error, "name", "")), None)
    if isinstance(kind, type) and issubclass(kind, EcluseError):
        return kind(str(getattr(error, "message", error)))
    return error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The lock of the profile's loop; the system lets it go with the process, also at a kill -9."""
    with disk(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another process runs the loop", where=str(path), cure="wait for it, or end it") from None
        yield
    finally:
        os.close(fd)


def _check(path: Path) -> None:
    """Make the file private, and see that it is a database. Raises Unavailable."""
    with disk(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        cure = "move the file away: the ledger knows what was handled, unfinished work begins anew"
        raise Unavailable(f"the loop's database: {error}", where=str(path), cure=cure) from error
