"""Ingest: files of rows become snapshots. Every table is judged before anything is changed; one refusal stops them all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl

from ecluse.core.codec import canonical
from ecluse.core.contract import Table
from ecluse.core.errors import Conflict, InvalidInput, NotFound
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.snapshot import Dataset, Snapshot
from ecluse.core.verdict import Verdict
from ecluse.data.check import Checked, check, keys_of
from ecluse.data.frame import KEY
from ecluse.data.freeze import Frozen, freeze
from ecluse.data.read import find_file, read_rows
from ecluse.loop.dataset import histories
from ecluse.loop.publish import publish

Status = Literal["ingested", "already known", "refused", "not taken", "would be ingested"]


@dataclass(frozen=True)
class TableIngest:
    """One table's part: the verdict about its rows, what became of them, and bad rows by rule."""

    table: str
    file: str
    verdict: Verdict
    status: Status
    rows: int
    quarantined: int
    counts: Mapping[str, int] = field(default_factory=dict)
    snapshot: Snapshot | None = None


@dataclass(frozen=True)
class IngestResult:
    """What an ingest (or its dry run) found and did; ``notes`` name tables without a file."""

    as_of: datetime
    tables: tuple[TableIngest, ...]
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def passed(self) -> bool:
        """True when every table's verdict passed."""
        return all(table.verdict.passed for table in self.tables)


@dataclass(frozen=True)
class _Read:
    """A table's file, read and checked."""

    table: Table
    path: Path
    checked: Checked


def ingest(
    world: World,
    project: Project,
    settings: Settings,
    folder: Path,
    as_of: datetime,
    *,
    actor: str,
    only: Sequence[str] = (),
    dry_run: bool = False,
) -> IngestResult:
    """Check the file of every declared table (or ``only`` some) in ``folder``, freeze what is good, move a data clock on to ``as_of``.

    A refusal is an answer (``passed`` is False, the fact ``data.refused``), not an exception; then nothing else is written. The same data
    again is "already known" and leaves no fact. An ingest that was killed is completed by running it again. ``dry_run`` only checks.
    Raises InvalidInput (no files, unreadable files, an as-of in the future), NotFound (``only`` an unknown table), Conflict (another
    ingest runs), Unavailable.
    """
    _check_moment(world, settings, as_of)
    files, notes = _find(folder, _ordered([project.table(name) for name in only] or project.tables))
    with _alone(world.home):
        known = world.state.snapshots()
        read = _read(world, project, known, files, as_of)
        if dry_run or not all(each.checked.verdict.passed for each in read):
            if not dry_run:
                _refuse(world, read, as_of, actor)
            return IngestResult(as_of, tuple(_judged(each, dry_run=dry_run) for each in read), notes, dry_run)
        tables = tuple(_take(world, known, each, as_of, actor) for each in read)
        _move_clock(world, settings, as_of)
        return IngestResult(as_of, tables, notes)


def _check_moment(world: World, settings: Settings, as_of: datetime) -> None:
    if as_of.tzinfo is None:
        raise InvalidInput(f"as-of {as_of} has no time zone", where="--as-of", cure="end it with Z or give a date")
    now = world.clock.now() if settings.time.now == "system" else None
    if now is not None and as_of > now:
        what = f"as-of {format_instant(as_of)} is in the future"
        raise InvalidInput(what, where="--as-of", cure=f"give a moment up to now, {format_instant(now)}")


def _find(folder: Path, tables: Sequence[Table]) -> tuple[list[tuple[Table, Path]], tuple[str, ...]]:
    if not folder.is_dir():
        raise InvalidInput(
            f"{folder} is no folder", where="--from", cure="name the folder that holds the tables' files"
        )
    found = [(table, path) for table in tables if (path := find_file(folder, table)) is not None]
    if not found:
        names = ", ".join(f"{table.file}.csv" for table in tables)
        raise InvalidInput("no table has a file there", where=str(folder), cure=f"put one there: {names} (or .parquet)")
    there = {table.name for table, _ in found}
    return found, tuple(
        f"{table.name}: no file {table.file}.csv or .parquet" for table in tables if table.name not in there
    )


def _ordered(tables: Sequence[Table]) -> list[Table]:
    """Tables after those they refer to; a ring of references is entered at its first name."""
    left = {table.name: table for table in sorted(tables, key=lambda table: table.name)}
    done: list[Table] = []
    while left:
        free = [t for t in left.values() if not (set(t.references) - {t.name}) & set(left)]
        for table in free or list(left.values())[:1]:
            done.append(left.pop(table.name))
    return done


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One ingest at a time in a profile; the lock goes with the process."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(home / "ingest.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock, home)
        yield
    finally:
        os.close(lock)


def _lock(handle: int, home: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        cure = "run it again when that one has ended"
        raise Conflict("another ingest is running", where=str(home), cure=cure) from None


def _read(
    world: World, project: Project, known: Sequence[Snapshot], files: Sequence[tuple[Table, Path]], as_of: datetime
) -> list[_Read]:
    raw = {table.name: read_rows(path, table) for table, path in files}
    keys = {table.name: keys_of(raw[table.name], table) for table, _ in files}
    done: list[_Read] = []
    past: dict[str, pl.Series] = {}
    for table, path in files:
        references = {}
        for name in table.references:
            if name not in past:
                past[name] = _history(world, project.table(name), known, as_of)[KEY]
            references[name] = pl.concat([past[name], keys.get(name, past[name])]).unique()
        checked = check(raw[table.name], table, as_of, references=references)
        if checked.verdict.passed:
            keys[table.name] = checked.frame[KEY]  # a row in quarantine is nothing to refer to
        done.append(_Read(table, path, checked))
    return done


def _history(world: World, table: Table, known: Sequence[Snapshot], as_of: datetime) -> pl.DataFrame:
    return histories(world, [table], Dataset(tuple(known), as_of))[table.name]


def _judged(read: _Read, *, dry_run: bool) -> TableIngest:
    status: Status = "refused"
    if read.checked.verdict.passed:
        status = "would be ingested" if dry_run else "not taken"
    return _part(read, status)


def _part(read: _Read, status: Status, snapshot: Snapshot | None = None) -> TableIngest:
    checked = read.checked
    rows, bad = checked.frame.height, checked.quarantined.height
    return TableIngest(read.table.name, read.path.name, checked.verdict, status, rows, bad, checked.counts, snapshot)


def _refuse(world: World, read: Sequence[_Read], as_of: datetime, actor: str) -> None:
    refused = [each for each in read if not each.checked.verdict.passed]
    why = {
        each.table.name: [finding.why for finding in each.checked.verdict.findings if not finding.passed]
        for each in refused
    }
    reason = "; ".join(f"{name}: {', '.join(whys)}" for name, whys in why.items())
    evidence = {"as_of": as_of, "findings": why, "counts": {each.table.name: each.checked.counts for each in refused}}
    world.state.append(Event("data.refused", _present(world, as_of), actor, reason=reason, evidence=evidence))


def _present(world: World, as_of: datetime) -> datetime:
    """The moment of this ingest: a data clock will have moved on to ``as_of`` by its end."""
    return max(_clock(world) or as_of, as_of)


def _clock(world: World) -> datetime | None:
    """The project's present; None while a data clock has not been set."""
    try:
        return world.clock.now()
    except NotFound:
        return None


def _take(world: World, known: Sequence[Snapshot], read: _Read, as_of: datetime, actor: str) -> TableIngest:
    table, checked, now = read.table, read.checked, _present(world, as_of)
    own = [snapshot for snapshot in known if snapshot.table == table.name]
    frozen = freeze(
        checked, table, as_of, _history(world, table, own, as_of), now, [s for s in own if s.as_of == as_of]
    )
    for snapshot in own:
        if snapshot.digest == frozen.snapshot.digest:
            return _part(read, "already known", snapshot)
    _store(world, frozen, checked, now, actor)
    return _part(read, "ingested", frozen.snapshot)


def _store(world: World, frozen: Frozen, checked: Checked, now: datetime, actor: str) -> None:
    snapshot = frozen.snapshot
    manifest = canonical({"snapshot": snapshot, "counts": checked.counts, "verdict": checked.verdict})
    world.snapshots.write(snapshot.table, snapshot.digest, frozen.frame, checked.quarantined, manifest)
    evidence = {
        "table": snapshot.table, "snapshot": snapshot.digest, "as_of": snapshot.as_of, "rows": snapshot.rows,
        "quarantined": snapshot.quarantined, "counts": checked.counts,
    }  # fmt: skip
    world.state.add_snapshot(snapshot, Event("data.ingested", now, actor, evidence=evidence))


def _move_clock(world: World, settings: Settings, as_of: datetime) -> None:
    world.clock.advance(as_of)
    if (
        settings.time.now == "data"
    ):  # workers judge freshness by the published clock; publishing the same again does nothing
        publish(world, settings)
