"""The authority in memory: port State without a file, for simulations, which write thousands of facts a second and leave nothing behind.

It keeps the promises of ``core/ports.py`` within one process and one thread; the same machine of random moves is held against it and against
the real one (``tests/acceptance/test_r2_any_order.py``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Self

from ecluse.core.codec import canonical
from ecluse.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from ecluse.core.event import KINDS, Event, LedgerRow, chain_hash
from ecluse.core.lease import Lease
from ecluse.core.rollout import Rollout, stages
from ecluse.core.snapshot import Snapshot
from ecluse.core.version import GateReport, ModelVersion, Run, Stage


@dataclass
class _Tables:
    rows: list[LedgerRow] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    declarations: list[bytes] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    versions: dict[tuple[str, int], ModelVersion] = field(default_factory=dict)
    reports: dict[tuple[str, int], GateReport] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    outbox: list[tuple[int, str, str]] = field(default_factory=list)
    mirrored: int = 0
    meta: dict[str, str] = field(default_factory=dict)
    leases: dict[str, tuple[int, str, str, float]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    generation: int = 0


_FREE = (0, "", "", 0.0)


class MemoryState:
    """Port State. ``monotonic`` is the clock of leases, ``wall`` the one that stamps when a fact was recorded."""

    def __init__(
        self, monotonic: Callable[[], float], wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._t, self._monotonic, self._wall = _Tables(), monotonic, wall
        self.fence: Lease | None = None
        self._process = "1"

    def seen_by(self, process: str) -> Self:
        """The same state as another process sees it."""
        seen = copy.copy(self)
        seen._process, seen.fence = process, None
        return seen

    def kill(self, process: str) -> None:
        """A process is dead: it holds no lease any longer."""
        self._t.dead.add(process)

    # ------------------------------------------------------------- leases

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """See ``core.lease.Leases``."""
        token, held_by, process, until = self._t.leases.get(name, _FREE)
        lives = self._monotonic() < until and process not in self._t.dead
        if held_by and (held_by, process) != (holder, self._process) and lives:
            return None
        self._t.leases[name] = (token + 1, holder, self._process, self._monotonic() + seconds)
        return Lease(name, holder, token + 1, seconds)

    def renew_lease(self, lease: Lease) -> bool:
        """See ``core.lease.Leases``."""
        token, held_by, process, _ = self._t.leases.get(lease.name, _FREE)
        if (token, held_by) != (lease.token, lease.holder):
            return False
        self._t.leases[lease.name] = (token, held_by, process, self._monotonic() + lease.seconds)
        return True

    def release_lease(self, lease: Lease) -> None:
        """See ``core.lease.Leases``."""
        if self._t.leases.get(lease.name, _FREE)[0] == lease.token:
            self._t.leases[lease.name] = (lease.token, "", "", 0.0)

    def fenced(self, lease: Lease) -> Self:
        """See ``core.lease.Leases``."""
        seen = copy.copy(self)
        seen.fence = lease
        return seen

    def _write(self) -> _Tables:
        lease = self.fence
        if lease is not None and self._t.leases.get(lease.name, _FREE)[0] != lease.token:
            raise Conflict(f"the lease on {lease.name} was lost", where=lease.holder)
        return self._t

    # ------------------------------------------------------------- ledger

    def append(self, event: Event) -> LedgerRow:
        """Add a fact to the chain. Raises InvalidInput for an unknown kind."""
        tables = self._write()
        if event.kind not in KINDS:
            raise InvalidInput(f"no event is called {event.kind!r}")
        event = replace(event, recorded=self._wall())
        previous, sequence = tables.rows[-1].hash if tables.rows else "", len(tables.rows) + 1
        row = LedgerRow(sequence, event, previous, chain_hash(previous, sequence, canonical(event)))
        tables.rows.append(row)
        return row

    def ledger(self, *, model: str | None = None, after: int = 0, key: str | None = None) -> Iterator[LedgerRow]:
        """The facts in order; what is added meanwhile is seen too."""
        place = max(after, 0)
        while place < len(self._t.rows):
            row = self._t.rows[place]
            place += 1
            if key is not None and row.event.evidence.get("key") != key:
                continue
            if model is None or row.event.model == model:
                yield row

    # --------------------------------------------------------------- data

    def add_snapshot(self, snapshot: Snapshot, event: Event) -> None:
        """Record an ingest; the same digest again is a no-op."""
        tables = self._write()
        if all((each.table, each.digest) != (snapshot.table, snapshot.digest) for each in tables.snapshots):
            tables.snapshots.append(snapshot)
            self.append(event)

    def snapshots(self, table: str | None = None) -> tuple[Snapshot, ...]:
        """Recorded snapshots, oldest ingest first."""
        return tuple(each for each in self._t.snapshots if table is None or each.table == table)

    def save_declaration(self, digest: str, canonical: bytes) -> None:
        """Remember the project's declaration."""
        self._write().declarations.append(canonical)

    def declaration(self) -> bytes | None:
        """The declaration last saved."""
        return self._t.declarations[-1] if self._t.declarations else None

    # ------------------------------------------------------------ versions

    def add_run(self, run: Run, event: Event) -> None:
        """Record a run; the very same again is a no-op. Raises Conflict for another of that id."""
        known = self._t.runs.get(run.id)
        if known is not None and known != run:
            raise Conflict(f"another run has the id {run.id}", where=run.model)
        if known is None:
            self._write().runs[run.id] = run
            self.append(event)
            self._mirror("run", run.id)

    def runs(self, model: str | None = None) -> tuple[Run, ...]:
        """Runs, oldest first."""
        return tuple(run for run in self._t.runs.values() if model is None or run.model == model)

    def run(self, run_id: str) -> Run:
        """One run, by id or unique prefix. Raises NotFound, InvalidInput for a prefix of several."""
        exact = self._t.runs.get(run_id)
        found = [exact] if exact else [run for run in self._t.runs.values() if run_id and run.id.startswith(run_id)]
        if not found:
            raise NotFound(f"run {run_id!r}")
        if len(found) > 1:
            raise InvalidInput(f"run {run_id!r} may be several", cure="give more of its id")
        return found[0]

    def register(self, run: Run, now: datetime, event: Event) -> ModelVersion:
        """Make a run the next version; the same run again is the same version."""
        tables = self._write()
        for version in tables.versions.values():
            if version.run == run.id:
                return version
        number = 1 + max((version.number for version in self.versions(run.model)), default=0)
        version = ModelVersion(run.model, number, run.id, run.bundle, Stage.NONE, now, run.threshold)
        tables.versions[run.model, number] = version
        self.append(replace(event, model=run.model, version=number))
        self._mirror("version", f"{run.model}/{number}")
        return version

    def version(self, model: str, number: int) -> ModelVersion:
        """Raises NotFound."""
        if (model, number) not in self._t.versions:
            raise NotFound(f"version {number} of {model}")
        return self._t.versions[model, number]

    def versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """By model and number."""
        return tuple(self._t.versions[key] for key in sorted(self._t.versions) if model is None or key[0] == model)

    def change_version(self, before: ModelVersion, after: ModelVersion, event: Event) -> None:
        """Compare-and-swap. Raises Conflict; NotAllowed to or from Production."""
        if before.stage is not after.stage and Stage.PRODUCTION in (before.stage, after.stage):
            raise NotAllowed("only a promotion or a rollback changes Production", where=after.model)
        tables = self._write()
        if self.version(after.model, after.number) != before:
            raise Conflict(f"version {after.number} was changed meanwhile", where=after.model)
        tables.versions[after.model, after.number] = after
        self.append(event)
        tables.generation += after.threshold != before.threshold
        if after.stage is not before.stage:
            self._mirror("rollout", after.model)

    def add_report(self, report: GateReport, event: Event) -> None:
        """Store a report; its verdict moves a version between None and Staging. Raises NotFound, Conflict."""
        tables, version = self._write(), self.version(report.model, report.version)
        if version.bundle != report.bundle:
            raise Conflict(f"the report is of another bundle than version {report.version}", where=report.model)
        self.append(event)
        if report.dry:
            return
        tables.reports[report.model, report.version] = report
        self._mirror("report", f"{report.model}/{report.version}")
        judged = Stage.STAGING if report.verdict.passed else Stage.NONE
        if version.stage in (Stage.NONE, Stage.STAGING) and version.stage is not judged:
            tables.versions[report.model, report.version] = replace(version, stage=judged)
            self._mirror("rollout", report.model)

    def report(self, model: str, version: int) -> GateReport | None:
        """The newest report that is not a dry run."""
        return self._t.reports.get((model, version))

    # ------------------------------------------------------------ rollouts

    def rollout(self, model: str) -> Rollout:
        """The model's rollout (an empty one before its first promotion)."""
        return self._t.rollouts.get(model, Rollout(model))

    def move(self, before: Rollout, after: Rollout, event: Event) -> None:
        """Compare-and-swap of the rollout with all that it implies; else Conflict and nothing changes."""
        if (after.model, after.revision) != (before.model, before.revision + 1):
            raise InvalidInput("a move goes to the next revision of the same model", where=after.model)
        tables = self._write()
        if self.rollout(before.model) != before:
            raise Conflict("production changed meanwhile", where=before.model)
        changes = {number: (self.version(after.model, number), to) for number, to in stages(before, after).items()}
        for version, to in changes.values():
            if to is Stage.PRODUCTION and (version.pruned or version.stage is Stage.REJECTED):
                raise Conflict(f"version {version.number} may not serve", where=after.model)
        for number, (version, to) in changes.items():
            tables.versions[after.model, number] = replace(version, stage=to)
        tables.rollouts[after.model] = after
        self.append(event)
        self._mirror("rollout", after.model)
        tables.generation += 1

    # ------------------------------------------------- generation, outbox, meta

    def generation(self) -> int:
        """Grows with every change a worker must see."""
        return self._t.generation

    def bump(self) -> int:
        """The next generation."""
        self._write().generation += 1
        return self._t.generation

    def pending(self) -> tuple[tuple[int, str, str], ...]:
        """Outbox rows not yet mirrored."""
        return tuple(self._t.outbox)

    def done(self, outbox_id: int) -> None:
        """An outbox row was applied (idempotent)."""
        tables = self._write()
        tables.outbox = [row for row in tables.outbox if row[0] != outbox_id]

    def meta(self, key: str) -> str | None:
        """A small remembered value."""
        return self._t.meta.get(key)

    def set_meta(self, key: str, value: str) -> None:
        """Remember it."""
        self._write().meta[key] = value

    def swap_meta(self, key: str, before: str | None, after: str, event: Event) -> None:
        """Compare-and-swap with the fact and the next generation. Raises Conflict."""
        tables = self._write()
        if tables.meta.get(key) != before:
            raise Conflict(f"`{key}` was changed meanwhile", where="state")
        tables.meta[key] = after
        self.append(event)
        tables.generation += 1

    def raise_meta(self, key: str, value: str) -> bool:
        """Remember it unless the text there sorts at or after it."""
        tables = self._write()
        if value <= tables.meta.get(key, ""):
            return False
        tables.meta[key] = value
        tables.generation += 1
        return True

    def _mirror(self, kind: str, reference: str) -> None:
        self._t.mirrored += 1
        self._t.outbox.append((self._t.mirrored, kind, reference))
