"""The data plane's one mutable place: the fleet that serves, what follows the document, and whether journal and online store answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ecluse.core.access import KeyGrant
from ecluse.core.errors import EcluseError
from ecluse.core.instants import to_micros
from ecluse.core.ports import Journal, OnlineReads
from ecluse.core.settings import Serving
from ecluse.core.wish import Wish
from ecluse.serving.board import Board
from ecluse.serving.metrics import Metrics
from ecluse.serving.places import Places
from ecluse.serving.published import Follower
from ecluse.serving.scorers import Failure, Fleet, Load, Loaded, next_fleet
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
        self.log: Callable[[str, dict[str, object]], None] = lambda event, facts: None

    @property
    def in_flight(self) -> int:
        """How many requests are being answered, those still arriving or waiting for a place not counted."""
        return self.admission.in_flight

    @property
    def keys(self) -> tuple[KeyGrant, ...]:
        """Every API key ever granted."""
        document = self.fleet.document
        return document.keys if document else ()

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
        """Follow the document and look after journal and online store until cancelled."""
        await self.refresh(first=True)
        self.started = True
        retry = time.monotonic() + RETRY_SECONDS
        while True:
            await asyncio.sleep(self.serving.poll_ms / 1_000)
            overdue = time.monotonic() >= retry and bool(self.fleet.failures)
            if self.parts.follower.changed() or overdue:
                await self.refresh(again=overdue)
                retry = time.monotonic() + RETRY_SECONDS
            if self.journal_problem is not None or self.online_problem is not None or overdue:
                await self.probe()

    async def refresh(self, *, first: bool = False, again: bool = False) -> None:
        """Read the document if it changed, load what it names beside the requests, then swap."""
        follower = self.parts.follower
        remembered = follower.document if first else None
        document = await asyncio.to_thread(follower.read) or remembered
        if document is None and again:
            document = self.fleet.document
        self.metrics.document_refused.set(bool(follower.refusal))
        if document is None:
            if follower.refusal:
                self.log("document.refused", {"why": follower.refusal})
        else:
            before = self.fleet
            self.fleet = await asyncio.to_thread(next_fleet, before, document, self.parts.load)
            self._tell(before, self.fleet)
        await self.probe()

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
            self.online_problem, self.online_answered = None, True
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

    def champion(self, model: str) -> Loaded | None:
        """The version that answers for a model now."""
        return self.fleet.champions.get(model)

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
