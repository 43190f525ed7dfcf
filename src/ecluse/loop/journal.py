"""The journal's retention, erasure and export: old segments go as a whole, a person's records are blanked, and the ledger says so."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from ecluse.core.codec import canonical
from ecluse.core.errors import InvalidInput, NotFound, Unavailable
from ecluse.core.event import Event
from ecluse.core.instants import parse_instant
from ecluse.core.journal import Expired
from ecluse.core.ports import JournalArchive, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings

CHUNK_RECORDS = 50_000
INSTANTS = ("time", "as_of", "at", "known_at")
TEXTS = ("kind", "id", "request_id", "model", "arm", "entity")
NUMBERS = {"version": pl.Int64, "propensity": pl.Float64, "score": pl.Float64, "threshold": pl.Float64, "latency_us": pl.Int64}  # fmt: skip
NESTED = ("decision", "value", "inputs", "moments", "scores", "unseen", "degraded", "extra")
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(INSTANTS, pl.Datetime("us", "UTC")),
    **dict.fromkeys(TEXTS, pl.String),
    **NUMBERS,
    **dict.fromkeys(NESTED, pl.String),
}


def prune_journal(
    world: World, project: Project, settings: Settings, archive: JournalArchive, dry_run: bool, *, actor: str = ""
) -> Sequence[Expired]:
    """Drop whole segments older than retention keeps; returns what went (or would). Told to the ledger first, then signed, then deleted.

    Raises Unavailable. Killed in between, the next prune goes on.
    """
    before = keep_since(world, project, settings)
    leaving = archive.expired(before)
    if dry_run:
        return leaving
    for each in leaving:
        evidence = {"start": each.start, "segments": each.segments, "records": each.records, "damaged": each.damaged}
        fact = Event("journal.pruned", world.clock.now(), actor or world.actor, "", None, "retention", evidence)
        world.state.append(fact)
        archive.drop(each.start, world.sealer.sign(canonical(each.start).decode()))
    return leaving


def keep_since(world: World, project: Project, settings: Settings) -> datetime:
    """The moment from which on records are kept: ``retention.journal`` ago, earlier where a monitor reads further back.

    A monitor needs its window, and for the truths of what was predicted in it the label's horizon and delay before that.
    """
    now, needed = world.clock.now(), settings.retention.journal
    oldest = []
    for model in project.models:
        window = settings.for_model(model.name).monitoring
        delay = model.predicts.horizon + model.predicts.known_after
        needed = max(needed, (window.period or timedelta(0)) + delay)
        if window.last is not None and (first := _first_of(world, model.name, window.last)) is not None:
            oldest.append(first)
    return min([now - needed, *oldest])


def _first_of(world: World, model: str, last: int) -> datetime | None:
    """The time of the oldest of a model's newest ``last`` predictions."""
    asked = last
    while True:
        records = list(world.read_predictions(None, None, asked))
        times = [each["time"] for each in records if each["kind"] == "prediction" and each["model"] == model]
        if len(times) >= last or len(records) < asked:
            return parse_instant(min(times[-last:])) if times else None
        asked *= 4


def erase_entity(
    world: World, archive: JournalArchive, entity: str, *, reason: str, actor: str = ""
) -> Mapping[str, Sequence[int]]:
    """Blank every record about an entity's key; returns per worker the sequences. The ledger names the records, never the entity.

    Raises NotFound when no record is about it, Unavailable. Killed in between, run it again.
    """
    places = archive.naming(entity)
    if not places:
        raise NotFound(
            "no record is about this entity", where="journal", cure="give the key as the journal writes it (`entity`)"
        )
    evidence = {"records": {worker: ranges(sequences) for worker, sequences in places.items()}}
    world.state.append(Event("journal.erased", world.clock.now(), actor or world.actor, "", None, reason, evidence))
    archive.erase(places)
    return places


def ranges(sequences: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as first and last of each unbroken run.

    >>> ranges([1, 2, 3, 7, 9, 10])
    [[1, 3], [7, 7], [9, 10]]
    """
    out: list[list[int]] = []
    for number in sequences:
        if out and out[-1][1] == number - 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return out


def export(records: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write records to a ``.jsonl`` or ``.parquet`` file, whole or not at all; returns how many. Raises InvalidInput, Unavailable.

    JSON lines are the records themselves. Parquet has a column for each field of predictions and outcomes; nested ones are JSON text.
    JSON lines hold one record at a time, Parquet all of them, column by column.
    """
    write = {".jsonl": _write_lines, ".parquet": _write_parquet}.get(path.suffix)
    if write is None:
        raise InvalidInput(f"{path.name} ends with neither .jsonl nor .parquet", cure="name the file by its format")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            count = write(iter(records), stream)
        temporary.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", cure="name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return count


def _write_lines(records: Iterator[Mapping[str, Any]], stream: BinaryIO) -> int:
    count = 0
    for record in records:
        stream.write(_json(record).encode() + b"\n")
        count += 1
    return count


def _write_parquet(records: Iterator[Mapping[str, Any]], stream: BinaryIO) -> int:
    frames = []
    while rows := [_row(each) for each in islice(records, CHUNK_RECORDS)]:
        frames.append(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    frame = pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMA)
    frame.write_parquet(stream)
    return frame.height


def _row(record: Mapping[str, Any]) -> list[Any]:
    instants = [parse_instant(text) if (text := record.get(name)) is not None else None for name in INSTANTS]
    nested = [_json(record[name]) if name in record else None for name in NESTED]
    return [*instants, *(record.get(name) for name in (*TEXTS, *NUMBERS)), *nested]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
