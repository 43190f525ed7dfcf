"""The data plane's one mutable place: the fleet that serves, what follows the document, and whether journal and online store answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from ecluse.core.access import KeyGrant
from ecluse.core.document import Document
from ecluse.core.errors import EcluseError
from ecluse.core.instants import to_micros
from ecluse.core.ports import Journal, OnlineReads
from ecluse.core.settings import Serving
from ecluse.core.wish import Wish
from ecluse.serving.beside import run_beside
from ecluse.serving.board import Board
from ecluse.serving.metrics import Metrics
from ecluse.serving.places import Places
from ecluse.serving.published import Follower
from ecluse.serving.scorers import Failure, Fleet, Load, next_fleet
from ecluse.serving.turn import Turns

RETRY_SECONDS = 5.0
"""How often a version that could not be loaded is tried again, and a journal or online store that failed is asked."""


@dataclass(frozen=True)
class Parts:
    """What the composition root gives: ports, the document's follower, the loader of versions, a probe of the journal's disk, where wishes go."""

    online: OnlineReads
    journal: Journal
    follower: Follower
    load: Load
    probe_journal: Callable[[], None]
    wish: Callable[[Wish], None]


class Plane:
    """Holds the present :class:`Fleet`; :meth:`follow` replaces it in one assignment. All but loading runs on one thread."""

    def __init__(self, parts: Parts, serving: Serving, *, profile: str, metrics: Metrics, worker: str = "w1") -> None:
        self.parts, self.serving, self.profile, self.metrics, self.worker = parts, serving, profile, metrics, worker
        self.board: Board | None = None
        self.fleet = Fleet()
        self.admission = Places(serving.max_in_flight, serving.max_waiting)
        self.turns = Turns(parts.journal)
        self.started = False
        self.draining = False  # /ready says no
        self.closing = False  # and every answer closes its connection
        self.journal_problem: str | None = "not probed yet"
        self.online_problem: str | None = "not asked yet"
        self.online_answered = False  # once is enough to be ready: a fault of a shared store must not empty the pool
        self.last_failure: tuple[Failure, str] | None = None
        self._retry_at = 0.0
        self.log: Callable[[str, dict[str, object]], None] = lambda event, facts: None

    @property
    def in_flight(self) -> int:
        """How many requests are being answered, those still arriving or waiting for a place not counted."""
        return self.admission.in_flight

    @property
    def document(self) -> Document | None:
        """The newest document believed; the fleet is of one before until what this one names is loaded."""
        return self.parts.follower.document

    @property
    def keys(self) -> tuple[KeyGrant, ...]:
        """Every API key ever granted."""
        return self.document.keys if self.document else ()

    @property
    def needs_key(self) -> bool:
        """True when callers must show a key: always outside ``dev``; there since the first was granted, also when all have ended."""
        return self.profile != "dev" or bool(self.keys)

    def now(self) -> datetime:
        """The project's present: the published data clock, else the system's."""
        document = self.fleet.document
        return document.data_now if document and document.data_now else datetime.now(UTC)

    def now_micros(self) -> int:
        """:meth:`now` in UTC microseconds."""
        document = self.fleet.document
        return to_micros(document.data_now) if document and document.data_now else time.time_ns() // 1_000

    async def follow(self) -> None:
        """Follow the document and look after journal and online store until cancelled.

        Versions are loaded beside this, however long that takes: a key that is revoked meanwhile ends meanwhile.
        """
        await self.read()
        loading = asyncio.create_task(self.load())
        try:
            while True:
                await asyncio.sleep(self.serving.poll_ms / 1_000)
                if self.parts.follower.changed():
                    await self.read()
                if loading.done():
                    loading.result()  # it never fails: an error of ours, better dead than deaf
                    overdue = bool(self.fleet.failures) and time.monotonic() >= self._retry_at
                    if self.document is not self.fleet.document or overdue:
                        loading = asyncio.create_task(self.load())
                if self.started and (self.journal_problem is not None or self.online_problem is not None):
                    await self.probe()
        finally:
            loading.cancel()

    async def read(self) -> None:
        """Read the document; what it says of keys holds from now on."""
        follower = self.parts.follower
        await asyncio.to_thread(follower.read)
        self.metrics.document_refused.set(bool(follower.refusal))
        if follower.refusal:
            self.log("document.refused", {"why": follower.refusal})

    async def load(self) -> None:
        """Load what the document names beside the requests, then swap."""
        before, document = self.fleet, self.document
        if document is not None:
            self.fleet = await run_beside(partial(next_fleet, before, document, self.parts.load))
            self._tell(before, self.fleet)
        await self.probe()
        self.started, self._retry_at = True, time.monotonic() + RETRY_SECONDS

    async def probe(self) -> None:
        """Ask journal and online store whether they answer."""
        try:
            self.parts.probe_journal()
            self.journal_problem = None
        except EcluseError as error:
            self.journal_problem = error.what
        view = next((view.name for loaded in self.fleet.champions.values() for view in loaded.schema.views), None)
        try:
            if view is not None:
                await self.parts.online.newest(view)
            self.online_problem, self.online_answered = None, self.online_answered or view is not None
        except EcluseError as error:
            self.online_problem = error.what
        self.metrics.journal_writable.set(self.journal_problem is None)

    async def feature_ages(self) -> dict[str, float]:
        """Seconds of project time since each view in use was materialized; views never written are left out. Raises Unavailable."""
        now, views = (
            to_micros(self.now()),
            {view.name for each in self.fleet.champions.values() for view in each.schema.views},
        )
        moments = {view: await self.parts.online.newest(view) for view in sorted(views)}
        return {view: (now - moment) / 1e6 for view, moment in moments.items() if moment is not None}

    def _tell(self, before: Fleet, after: Fleet) -> None:
        self.metrics.generation.set(after.generation)
        self.metrics.load_failures.set(len(after.failures))
        for failure in after.failures:
            if failure not in before.failures:
                self.last_failure = (failure, datetime.now(UTC).isoformat(timespec="seconds"))
                self.log("version.refused", {"model": failure.model, "version": failure.number, "why": failure.reason})
        for name, loaded in after.champions.items():
            old = before.champions.get(name)
            self.metrics.champion.labels(name).set(loaded.number)
            if old is None or (old.number, old.digest) != (loaded.number, loaded.digest):
                facts = {"model": name, "version": loaded.number, "before": old.number if old else None}
                self.log("version.serving", {**facts, "generation": after.generation})
