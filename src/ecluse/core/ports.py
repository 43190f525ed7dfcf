"""Ports: what Écluse asks of the world, with the promises each adapter must keep (contract suites in ``testing/``).

All ports are safe to use from several processes at once unless said otherwise; all raise only errors of ``core.errors``:
Unavailable when the other side cannot be reached or written, Corrupt when bytes are not what they should be.
``Frame`` is a polars DataFrame in every adapter of ours; core does not import polars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ecluse.core.bundle import Bundle
from ecluse.core.document import Document, Signed
from ecluse.core.event import Event, LedgerRow
from ecluse.core.expression import Value
from ecluse.core.journal import Expired, ReadPredictions, Segment, Start
from ecluse.core.lease import Leases
from ecluse.core.rollout import Rollout
from ecluse.core.snapshot import Snapshot
from ecluse.core.tuning import TuningTracker
from ecluse.core.version import GateReport, ModelVersion, Run, Stage
from ecluse.core.wish import Wish


class Clock(Protocol):
    """The project's clock (DESIGN §3.11)."""

    def now(self) -> datetime:
        """The project's present instant, UTC."""
        ...

    def advance(self, to: datetime) -> None:
        """Move a data clock to ``to`` (never back); no effect on a system clock."""
        ...


class State(Leases, Protocol):
    """The authority: runs, versions, stages, rollouts, reports, ledger, declaration, outbox; one transaction per call."""

    def append(self, event: Event) -> LedgerRow:
        """Add a fact to the chain."""
        ...

    def ledger(self, *, model: str | None = None, after: int = 0, key: str | None = None) -> Iterator[LedgerRow]:
        """The facts in order (all of them form the chain; ``model`` filters, and ``key``, that of the evidence)."""
        ...

    def add_snapshot(self, snapshot: Snapshot, event: Event) -> None:
        """Record an ingest; recording the same digest again is a no-op without an event."""
        ...

    def snapshots(self, table: str | None = None) -> tuple[Snapshot, ...]:
        """Recorded snapshots, oldest ingest first."""
        ...

    def save_declaration(self, digest: str, canonical: bytes) -> None:
        """Remember the project's declaration as the current one."""
        ...

    def declaration(self) -> bytes | None:
        """The declaration last saved."""
        ...

    def add_run(self, run: Run, event: Event) -> None:
        """Record a run (outbox: mirror it)."""
        ...

    def runs(self, model: str | None = None) -> tuple[Run, ...]:
        """Runs, oldest first."""
        ...

    def run(self, run_id: str) -> Run:
        """One run, by id or unique prefix. Raises NotFound."""
        ...

    def register(self, run: Run, now: datetime, event: Event) -> ModelVersion:
        """Make a run the next version of its model; the same run again returns the same version."""
        ...

    def version(self, model: str, number: int) -> ModelVersion:
        """Raises NotFound."""
        ...

    def versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """By model and number."""
        ...

    def change_version(self, before: ModelVersion, after: ModelVersion, event: Event) -> None:
        """Compare-and-swap: when the version is still exactly ``before``, write stage, threshold and flags of ``after``, with the fact; a new
        threshold is a new generation. Never to or from Production. Raises Conflict.
        """
        ...

    def add_report(self, report: GateReport, event: Event) -> None:
        """Store a gate report; its verdict moves a version between None and Staging in the same transaction."""
        ...

    def report(self, model: str, version: int) -> GateReport | None:
        """The newest report of a version that is not a dry run."""
        ...

    def rollout(self, model: str) -> Rollout:
        """The model's rollout (an empty one before its first promotion)."""
        ...

    def move(self, before: Rollout, after: Rollout, event: Event) -> None:
        """Compare-and-swap: when ``before`` is still current, write ``after``, the stages it implies, the fact, the outbox row and the next
        generation in one transaction; else Conflict and nothing changes. At most one Production per model at every instant.
        """
        ...

    def generation(self) -> int:
        """Grows with every change a worker must see."""
        ...

    def bump(self) -> int:
        """The next generation."""
        ...

    def pending(self) -> tuple[tuple[int, str, str], ...]:
        """Outbox rows not yet mirrored: (id, kind, reference)."""
        ...

    def done(self, outbox_id: int) -> None:
        """An outbox row was applied (idempotent)."""
        ...

    def meta(self, key: str) -> str | None:
        """A small remembered value (the data clock, the last event handled)."""
        ...

    def set_meta(self, key: str, value: str) -> None:
        """Remember it."""
        ...

    def swap_meta(self, key: str, before: str | None, after: str, event: Event) -> None:
        """Compare-and-swap: when the value is still ``before``, remember ``after`` with the fact and the next generation, in one
        transaction. Raises Conflict.
        """
        ...

    def raise_meta(self, key: str, value: str) -> bool:
        """Remember it, with the next generation, unless the text there sorts at or after it; whether it was written."""
        ...


class Snapshots(Protocol):
    """Immutable rows of tables. A write is whole or absent."""

    def write(self, table: str, digest: str, frame: Any, quarantined: Any, manifest: bytes) -> None:
        """Store rows, quarantined rows and manifest under the digest; storing it again changes nothing."""
        ...

    def read(self, snapshot: Snapshot) -> Any:
        """The typed rows (Frame) with ``__key``, ``__event``, ``__known`` columns. Raises Corrupt, NotFound."""
        ...

    def quarantined(self, snapshot: Snapshot) -> Any:
        """The refused rows (Frame) with their reasons."""
        ...


class Bundles(Protocol):
    """Bundles by digest with what lies beside them. A write is whole or absent; files 0600, directories 0700."""

    def put(self, bundle: Bundle, seal: Signed) -> None:
        """Store; the same digest again changes nothing."""
        ...

    def get(self, digest: str) -> Bundle:
        """Every byte checked against the digest, the seal not yet. Raises Corrupt, NotFound."""
        ...

    def seal(self, digest: str) -> Signed:
        """The seal beside a bundle. Raises NotFound, Corrupt."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a bundle and its seal."""
        ...

    def write_beside(self, digest: str, name: str, data: bytes, *, keep: int | None = None) -> Path:
        """Store a file beside a bundle (plots, card), atomically. ``keep``: only the newest so many called alike up to the first dot stay."""
        ...

    def read_beside(self, digest: str, name: str) -> bytes:
        """Raises NotFound."""
        ...


class OnlineRow(NamedTuple):
    """One entity's values of one view. ``as_of``: the moment computed for; ``event``: of the latest event (None: no live row);
    both UTC microseconds.
    """

    values: Mapping[str, Value]
    as_of: int
    event: int | None


class Online(Protocol):
    """The online store as the control plane sees it: values of (view, entity key)."""

    def write(self, view: str, rows: Iterable[tuple[str, OnlineRow]]) -> tuple[int, int]:
        """Write in one batch, whole or not at all; never over a row with a newer ``as_of``, and not over one that is the same.
        Returns (written, kept).
        """
        ...

    def read(self, views: Sequence[str], key: str) -> Mapping[str, OnlineRow]:
        """The rows of a key in these views, in one round trip; a view without a row is absent."""
        ...

    def moment(self, view: str) -> int | None:
        """The newest ``as_of`` written for a view."""
        ...


class OnlineReads(Protocol):
    """The online store as a worker sees it: the same answers as :class:`Online`, awaited on the worker's one loop and in bounded time.

    A store that answers from memory or a local file need not suspend; one behind a network must, or one slow answer would hold up all.
    """

    async def fetch(self, views: Sequence[str], key: str) -> Mapping[str, OnlineRow]:
        """See :meth:`Online.read`."""
        ...

    async def newest(self, view: str) -> int | None:
        """See :meth:`Online.moment`."""
        ...


class Sealer(Protocol):
    """Signs with the profile's Ed25519 key."""

    @property
    def public_key(self) -> str:
        """Hex."""
        ...

    def sign(self, payload: str) -> Signed:
        """A signature over the payload's UTF-8 bytes."""
        ...


Verify = Callable[[Signed, Sequence[str]], str]
"""(signed, trusted public keys) -> the payload. Raises Corrupt for a bad signature or a key that is not trusted."""


class Scorer(Protocol):
    """A loaded model: encoded matrix in, outputs out. Safe to call from several threads."""

    def score(self, matrix: Any) -> Any:
        """float64 [n, F] -> float64 [n, K] (numpy arrays)."""
        ...


class Journal(Protocol):
    """One worker's journal: what was appended is kept once ``durable`` has returned; no answer leaves before.

    An event loop's: ``mark`` is taken when a request begins, then records are appended, then ``durable(mark)`` is awaited.
    """

    @property
    def mark(self) -> int:
        """How often records taken were lost so far."""
        ...

    def next_id(self, ahead: int = 0) -> str:
        """The id of the record appended next, or ``ahead`` after it."""
        ...

    def append(self, record: bytes) -> int:
        """Append a JSON record; returns its sequence. Raises Unavailable: then nothing was acknowledged."""
        ...

    def append_many(self, records: Sequence[bytes]) -> Sequence[int]:
        """Append records together, all or none; returns their sequences. Raises Unavailable."""
        ...

    async def durable(self, mark: int) -> None:
        """Return when all that was appended is as durable as the settings ask. Raises Unavailable when anything was lost since ``mark``."""
        ...

    def close(self) -> None:
        """Flush and release."""
        ...


class JournalArchive(Protocol):
    """The journals of all workers as the control plane sees them. Every call raises Unavailable when the disk refuses."""

    def expired(self, before: datetime) -> Sequence[Expired]:
        """Per worker the oldest whole segments of which no record is of ``before`` or later; never its newest segment."""
        ...

    def drop(self, start: Start, marker: Signed) -> None:
        """Delete a worker's segments before ``start``; the marker, a signed ``start``, says so to whoever verifies."""
        ...

    def naming(self, entity: str) -> Mapping[str, Sequence[int]]:
        """Per worker the sequences of records about an entity's key, outcomes of its requests among them."""
        ...

    def erase(self, places: Mapping[str, Sequence[int]]) -> int:
        """Blank these records for good; returns how many were not blank before. Idempotent."""
        ...


class Publisher(Protocol):
    """Where workers find the published document, and leave what they were asked for."""

    def publish(self, document: Document, signed: Signed) -> None:
        """Replace the document atomically; an older generation never replaces a newer one."""
        ...

    def current(self) -> Signed | None:
        """The document as published."""
        ...

    def wishes(self) -> tuple[Wish, ...]:
        """What callers asked workers for and nobody decided yet; at most one for each model, the newest."""
        ...

    def decided(self, wish: Wish) -> None:
        """Forget a wish (idempotent)."""
        ...


class Tracker(TuningTracker, Protocol):
    """The tracking mirror (MLflow): written after commit, never on the way to a release."""

    def empty(self) -> bool:
        """Whether nothing was ever written to it, or all of it was deleted."""
        ...

    def mirror_run(self, run: Run, artifacts: Mapping[str, bytes]) -> None:
        """Run with parameters, metrics, tags, artifacts. Idempotent."""
        ...

    def mirror_version(self, version: ModelVersion, run: Run, bundle_directory: Path) -> None:
        """Registered model version that ``mlflow.pyfunc`` loads. Idempotent."""
        ...

    def mirror_rollout(
        self, model: str, champion: int | None, staging: int | None, stages: Mapping[int, Stage] | None = None
    ) -> int | None:
        """The aliases ``production`` and ``staging``, and the stages as tags; whom ``production`` named before (0: a stranger). Raises NotFound."""
        ...

    def mirror_report(self, report: GateReport) -> None:
        """The verdict as a tag and an artifact of the version's run. Idempotent."""
        ...


Step = Callable[[str, Callable[[], Any]], Any]
"""(name, function) -> what it returns (JSON values): run once and remembered, so that work resumed after a kill does not run it again.

Within one piece of work names are unique and steps come in the same order each time. What ran but was not yet remembered when the process
died runs again: a step must find what it did before.
"""


class Durable(Protocol):
    """Runs work that outlives its process: what was begun and not ended goes on at the next launch."""

    def run(self, workflow_id: str, name: str, *args: Any) -> Any:
        """Do the named work on ``args`` (JSON values), once per id: ended before, its result is returned; running, it is waited for; failed
        before, it is tried anew. Raises what the work raises.
        """
        ...


@dataclass(frozen=True)
class World:
    """All ports of a profile: what a handler of the loop is given besides values.

    ``segments``: the journal's files, where a reader may count them itself (None: record by record only).
    """

    root: Path
    home: Path
    clock: Clock
    state: State
    snapshots: Snapshots
    bundles: Bundles
    online: Online
    sealer: Sealer
    publisher: Publisher
    open_scorer: Callable[[Bundle], Scorer]
    read_predictions: ReadPredictions
    tracker: Callable[[], Tracker | None]
    actor: str
    segments: Callable[[], Sequence[Segment]] | None = None
