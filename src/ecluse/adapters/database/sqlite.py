"""The authority in a SQLite file: port State, one transaction per call; the row of the ledger is chained inside it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ecluse.adapters.database import queries
from ecluse.adapters.database.connection import BUSY_SECONDS, Database
from ecluse.adapters.database.leases import LeaseTable
from ecluse.core.codec import canonical, digest_bytes, from_plain
from ecluse.core.errors import Conflict, Corrupt, DeclarationError, InvalidInput, NotAllowed, NotFound
from ecluse.core.event import KINDS, Event, LedgerRow, chain_hash
from ecluse.core.failpoint import failpoint
from ecluse.core.instants import format_instant, parse_instant
from ecluse.core.rollout import Rollout, stages
from ecluse.core.snapshot import Snapshot
from ecluse.core.version import GateReport, ModelVersion, Run, Stage

T = TypeVar("T")
PAGE = 500


class SqliteState(LeaseTable):
    """The state in ``path``, made when it is first used. Safe from several threads and processes at once."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._database = Database(path, busy_seconds=busy_seconds)

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        self._database.close()

    # ------------------------------------------------------------- ledger

    def append(self, event: Event) -> LedgerRow:
        """Add a fact to the chain."""
        with self._database.write() as connection:
            return _chain(connection, event)

    def ledger(self, *, model: str | None = None, after: int = 0, key: str | None = None) -> Iterator[LedgerRow]:
        """The facts in order, read in pages: what is added meanwhile is seen too. Raises Corrupt for a row that cannot be read."""
        while True:
            if key is not None:
                page = self._database.read(queries.LEDGER_OF_KEY, (after, key, model, PAGE))
            elif model is None:
                page = self._database.read(queries.LEDGER, (after, PAGE))
            else:
                page = self._database.read(queries.LEDGER_OF_MODEL, (after, model, PAGE))
            for row in page:
                yield _ledger_row(row)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    # --------------------------------------------------------------- data

    def add_snapshot(self, snapshot: Snapshot, event: Event) -> None:
        """Record an ingest; recording the same digest again is a no-op without an event."""
        with self._database.write() as connection:
            row = (snapshot.table, snapshot.digest, _text(snapshot))
            if connection.execute(queries.ADD_SNAPSHOT, row).rowcount:
                _chain(connection, event)

    def snapshots(self, table: str | None = None) -> tuple[Snapshot, ...]:
        """Recorded snapshots, oldest ingest first."""
        return tuple(_value(Snapshot, text) for (text,) in self._database.read(queries.SNAPSHOTS, (table,)))

    def save_declaration(self, digest: str, canonical: bytes) -> None:
        """Remember the project's declaration as the current one; earlier ones are kept. Raises InvalidInput for another's digest."""
        if digest_bytes(canonical) != digest:
            raise InvalidInput("the declaration does not match its digest", cure="save its canonical bytes")
        newest = self._database.read(queries.DECLARATION)
        if newest and newest[0][0] == digest:
            return
        with self._database.write() as connection:
            connection.execute(queries.FORGET_DECLARATION, (digest,))
            connection.execute(queries.ADD_DECLARATION, (digest, canonical))

    def declaration(self) -> bytes | None:
        """The declaration last saved. Raises Corrupt."""
        for digest, saved in self._database.read(queries.DECLARATION):
            if digest_bytes(saved) != digest:
                raise Corrupt(
                    "the declaration does not match its digest", where="state", cure="run `ecluse train` again"
                )
            return bytes(saved)
        return None

    # ------------------------------------------------------------ versions

    def add_run(self, run: Run, event: Event) -> None:
        """Record a run; the very same again is a no-op without an event. Raises Conflict for another run of that id."""
        with self._database.write() as connection:
            known = connection.execute(queries.RUN, (run.id,)).fetchone()
            if known is not None:
                if known[0] != _text(run):
                    raise Conflict(
                        f"another run has the id {run.id}", where=run.model, cure="give each run an id of its own"
                    )
                return
            connection.execute(queries.ADD_RUN, (run.id, run.model, _text(run)))
            _chain(connection, event)
            connection.execute(queries.TO_MIRROR, ("run", run.id))

    def runs(self, model: str | None = None) -> tuple[Run, ...]:
        """Runs, oldest first."""
        return tuple(_value(Run, text) for (text,) in self._database.read(queries.RUNS, (model,)))

    def run(self, run_id: str) -> Run:
        """One run, by id or unique prefix. Raises NotFound; InvalidInput for a prefix of several."""
        exact = self._database.read(queries.RUN, (run_id,))
        found = exact or (self._database.read(queries.RUNS_BY_PREFIX, (run_id,)) if run_id else [])
        if not found:
            raise NotFound(f"run {run_id!r}", cure="list them with `ecluse runs`")
        if len(found) > 1:
            names = ", ".join(_value(Run, text).id for (text,) in found)
            raise InvalidInput(f"run {run_id!r} may be {names}, …", cure="give more of its id")
        return _value(Run, found[0][0])

    def register(self, run: Run, now: datetime, event: Event) -> ModelVersion:
        """Make a run the next version of its model; the same run again returns the same version, without an event."""
        with self._database.write() as connection:
            known = connection.execute(queries.VERSION_OF_RUN, (run.id,)).fetchone()
            if known is not None:
                return _version(known)
            (number,) = connection.execute(queries.NEXT_NUMBER, (run.model,)).fetchone()
            version = ModelVersion(run.model, number, run.id, run.bundle, Stage.NONE, now, run.threshold)
            connection.execute(queries.ADD_VERSION, _version_row(version))
            _chain(connection, replace(event, model=run.model, version=number))
            connection.execute(queries.TO_MIRROR, ("version", _reference(run.model, number)))
            return version

    def version(self, model: str, number: int) -> ModelVersion:
        """Raises NotFound."""
        for row in self._database.read(queries.VERSION, (model, number)):
            return _version(row)
        raise NotFound(f"version {number} of {model}", cure="list them with `ecluse versions`")

    def versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """By model and number."""
        return tuple(_version(row) for row in self._database.read(queries.VERSIONS, (model,)))

    def change_version(self, before: ModelVersion, after: ModelVersion, event: Event) -> None:
        """Compare-and-swap of stage, threshold and flags, with the fact; a new threshold is a new generation.

        Raises Conflict; NotAllowed to or from Production, which is `move`'s alone.
        """
        if before.stage is not after.stage and Stage.PRODUCTION in (before.stage, after.stage):
            raise NotAllowed("only a promotion or a rollback changes Production", where=after.model)
        if (
            replace(after, stage=before.stage, threshold=before.threshold, pruned=before.pruned, held=before.held)
            != before
        ):
            raise InvalidInput(
                "only stage, threshold and flags of a version change", where=f"{after.model} {after.number}"
            )
        key = (after.model, after.number)
        with self._database.write() as connection:
            if _read_version(connection, *key) != before:
                raise Conflict(
                    f"version {after.number} was changed meanwhile",
                    where=after.model,
                    cure="look again and decide anew",
                )
            connection.execute(
                queries.CHANGE_VERSION, (after.stage.value, after.threshold, after.pruned, after.held, *key)
            )
            _chain(connection, event)
            if after.threshold != before.threshold:
                connection.execute(queries.BUMP).fetchone()
            if after.stage is not before.stage:
                connection.execute(queries.TO_MIRROR, ("rollout", after.model))

    def add_report(self, report: GateReport, event: Event) -> None:
        """Store a gate report; its verdict (no dry run) moves a version between None and Staging in the same transaction.

        Raises NotFound for no such version, Conflict when the report is of another bundle.
        """
        with self._database.write() as connection:
            version = _read_version(connection, report.model, report.version)
            if version.bundle != report.bundle:
                raise Conflict(f"the report is of another bundle than version {report.version}", where=report.model)
            row = (report.model, report.version, report.dry, _text(report))
            connection.execute(queries.ADD_REPORT, row)
            _chain(connection, event)
            if report.dry:
                return
            connection.execute(queries.TO_MIRROR, ("report", _reference(report.model, report.version)))
            judged = Stage.STAGING if report.verdict.passed else Stage.NONE
            if version.stage in (Stage.NONE, Stage.STAGING) and version.stage is not judged:
                connection.execute(queries.SET_STAGE, (judged.value, report.model, report.version))
                connection.execute(queries.TO_MIRROR, ("rollout", report.model))

    def report(self, model: str, version: int) -> GateReport | None:
        """The newest report of a version that is not a dry run."""
        for (text,) in self._database.read(queries.REPORT, (model, version)):
            return _value(GateReport, text)
        return None

    # ------------------------------------------------------------ rollouts

    def rollout(self, model: str) -> Rollout:
        """The model's rollout (an empty one before its first promotion)."""
        for (text,) in self._database.read(queries.ROLLOUT, (model,)):
            return _value(Rollout, text)
        return Rollout(model)

    def move(self, before: Rollout, after: Rollout, event: Event) -> None:
        """Compare-and-swap of the rollout with stages, fact, outbox row and next generation, in one transaction; else Conflict.

        Conflict also when the new champion was rejected or pruned since it was looked at.
        """
        if (after.model, after.revision) != (before.model, before.revision + 1):
            raise InvalidInput("a move goes to the next revision of the same model", where=after.model)
        with self._database.write() as connection:
            row = connection.execute(queries.ROLLOUT, (before.model,)).fetchone()
            current = _value(Rollout, row[0]) if row else Rollout(before.model)
            if current != before:
                raise Conflict(
                    f"production changed meanwhile: version {current.champion} serves",
                    where=before.model,
                    cure="look again with `ecluse status` and decide anew",
                )
            failpoint("state.compared")
            _set_stages(connection, before, after)
            connection.execute(queries.SET_ROLLOUT, (after.model, after.revision, after.champion, _text(after)))
            failpoint("state.staged")
            _chain(connection, event)
            failpoint("state.chained")
            connection.execute(queries.TO_MIRROR, ("rollout", after.model))
            connection.execute(queries.BUMP).fetchone()

    # ------------------------------------------------- generation, outbox, meta

    def generation(self) -> int:
        """Grows with every change a worker must see."""
        return int(self._database.read(queries.GENERATION)[0][0])

    def bump(self) -> int:
        """The next generation."""
        with self._database.write() as connection:
            return int(connection.execute(queries.BUMP).fetchone()[0])

    def pending(self) -> tuple[tuple[int, str, str], ...]:
        """Outbox rows not yet mirrored: (id, kind, reference), oldest first.

        References: a run's id, ``<model>/<number>`` for version and report, a model's name for rollout.
        """
        return tuple((row[0], row[1], row[2]) for row in self._database.read(queries.PENDING))

    def done(self, outbox_id: int) -> None:
        """An outbox row was applied (idempotent)."""
        with self._database.write() as connection:
            connection.execute(queries.DONE, (outbox_id,))

    def meta(self, key: str) -> str | None:
        """A small remembered value."""
        for (value,) in self._database.read(queries.META, (key,)):
            return str(value)
        return None

    def set_meta(self, key: str, value: str) -> None:
        """Remember it."""
        with self._database.write() as connection:
            connection.execute(queries.SET_META, (key, value))

    def swap_meta(self, key: str, before: str | None, after: str, event: Event) -> None:
        """Compare-and-swap of a remembered value, with the fact and the next generation, in one transaction. Raises Conflict."""
        with self._database.write() as connection:
            row = connection.execute(queries.META, (key,)).fetchone()
            if (row[0] if row else None) != before:
                raise Conflict(f"`{key}` was changed meanwhile", where="state", cure="look again and decide anew")
            connection.execute(queries.SET_META, (key, after))
            _chain(connection, event)
            connection.execute(queries.BUMP).fetchone()

    def raise_meta(self, key: str, value: str) -> bool:
        """Remember it, with the next generation, unless the text there sorts at or after it; whether it was written."""
        with self._database.write() as connection:
            written = connection.execute(queries.RAISE_META, (key, value)).rowcount > 0
            if written:
                connection.execute(queries.BUMP).fetchone()
            return written


def _chain(connection: sqlite3.Connection, event: Event) -> LedgerRow:
    """The event at the end of the chain, whose last hash is read inside the same transaction. Raises InvalidInput for an unknown kind."""
    if event.kind not in KINDS:
        raise InvalidInput(f"no event is called {event.kind!r}", cure="kinds: " + ", ".join(KINDS))
    event = replace(event, recorded=datetime.now(UTC))
    text = _text(event)
    last, previous = connection.execute(queries.LAST_ROW).fetchone() or (0, "")
    row = LedgerRow(last + 1, event, previous, chain_hash(previous, last + 1, text.encode()))
    connection.execute(queries.ADD_ROW, (row.sequence, text, row.previous, row.hash))
    return row


def _set_stages(connection: sqlite3.Connection, before: Rollout, after: Rollout) -> None:
    """The stages a move implies; the one that leaves goes first, so that there are never two. Raises Conflict."""
    changes = stages(before, after)
    for number in sorted(changes, key=lambda each: changes[each] is Stage.PRODUCTION):
        version = _read_version(connection, after.model, number)
        if changes[number] is Stage.PRODUCTION and (version.pruned or version.stage is Stage.REJECTED):
            word = "pruned" if version.pruned else "rejected"
            raise Conflict(f"version {number} was {word} meanwhile", where=after.model, cure="choose another version")
        connection.execute(queries.SET_STAGE, (changes[number].value, after.model, number))


def _read_version(connection: sqlite3.Connection, model: str, number: int) -> ModelVersion:
    row = connection.execute(queries.VERSION, (model, number)).fetchone()
    if row is None:
        raise NotFound(f"version {number} of {model}", cure="list them with `ecluse versions`")
    return _version(row)


def _version(row: tuple[Any, ...]) -> ModelVersion:
    model, number, run, bundle, stage, registered, threshold, pruned, held = row
    return ModelVersion(
        model, number, run, bundle, Stage(stage), parse_instant(registered), threshold, bool(pruned), bool(held)
    )


def _version_row(version: ModelVersion) -> tuple[Any, ...]:
    stage, registered = version.stage.value, format_instant(version.registered)
    key = (version.model, version.number, version.run, version.bundle)
    return (*key, stage, registered, version.threshold, version.pruned, version.held)


def _ledger_row(row: tuple[Any, ...]) -> LedgerRow:
    sequence, text, previous, row_hash = row
    try:
        event = from_plain(Event, json.loads(text), where="ledger")
        if canonical(event).decode() != text:
            raise ValueError("not in canonical form")
    except (ValueError, TypeError, DeclarationError, InvalidInput):
        raise Corrupt(
            f"row {sequence} of the ledger was changed", where="ledger", cure="restore the state from a copy"
        ) from None
    return LedgerRow(sequence, event, previous, row_hash)


def _text(value: object) -> str:
    try:
        return canonical(value).decode()
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"a {type(value).__name__} cannot be kept: {error}", where="state", cure="give finite numbers"
        ) from None


def _value(kind: type[T], text: str) -> T:
    try:
        return from_plain(kind, json.loads(text), where="state")
    except (ValueError, DeclarationError, InvalidInput) as error:
        raise Corrupt(
            f"a {kind.__name__} of the state cannot be read: {error}", where="state", cure="restore it from a copy"
        ) from error


def _reference(model: str, number: int) -> str:
    return f"{model}/{number}"
