"""Commands about the journal: journal verify, journal read, journal export, journal erase."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table
from ecluse.core.errors import InvalidInput
from ecluse.core.instants import parse_instant

if TYPE_CHECKING:
    from ecluse.core.frame import Head

Since = Annotated[str | None, Option("--since", help="from this instant on")]
Until = Annotated[str | None, Option("--until", help="before this instant")]
Last = Annotated[int | None, Option("--last", help="only the newest so many", min=0)]
Worker = Annotated[str | None, Option("--worker", help="only this worker's")]
Kind = Annotated[str | None, Option("--kind", help="prediction or outcome")]


def verify(
    shell: Shell,
    *,
    head: Annotated[
        list[str] | None, Option("--head", help="WORKER:SEQUENCE:HASH noted earlier; may be repeated")
    ] = None,
) -> Reply:
    """Check that no record was changed, removed or put in; prints each worker's head, to be kept elsewhere (exit code 3 when not whole)."""
    app = shell.app
    noted = dict(_head(text) for text in head or ())
    problems = app.journal.verify(noted, [app.world.sealer.public_key])
    heads = {name: f"{name}:{each.sequence}:{each.hash.hex()}" for name, each in app.journal.heads().items()}
    rows = [(p.worker, p.segment, p.offset, p.sequence, p.what) for p in problems]
    text = table(["worker", "segment", "byte", "record", "what"], rows) if rows else "the journal is whole"
    text += "".join(f"\n{each}" for each in heads.values())
    return Reply({"problems": problems, "heads": heads}, text, refused=bool(problems))


def read(
    shell: Shell,
    *,
    since: Since = None,
    until: Until = None,
    last: Last = None,
    worker: Worker = None,
    kind: Kind = None,
) -> Reply:
    """Print records as JSON lines, oldest first; the newest 100 unless told otherwise. `journal export` is for many."""
    if since is None and until is None and last is None:
        last = 100
    records = list(_records(shell, since, until, last, worker, kind))
    return Reply(records, "\n".join(json.dumps(each, ensure_ascii=False) for each in records))


def export(
    shell: Shell,
    *,
    file: Annotated[Path, Argument(help="to write: .jsonl or .parquet")],
    since: Since = None,
    until: Until = None,
    last: Last = None,
    worker: Worker = None,
    kind: Kind = None,
) -> Reply:
    """Write records to a file: JSON lines as journaled, or Parquet with a column for each field."""
    from ecluse.loop.journal import export as write

    count = write(_records(shell, since, until, last, worker, kind), file)
    return Reply({"file": str(file), "records": count}, f"{file}: {count} records")


def erase(
    shell: Shell,
    *,
    entity: Annotated[str, Option("--entity", help="the key, as `entity` in the journal")],
    why: Annotated[str, Option("--why", help="the reason, for the ledger")],
) -> Reply:
    """Blank every prediction and outcome about an entity for good. The chain stays whole; the ledger names the records, not the entity."""
    from ecluse.loop.journal import erase_entity

    app = shell.app
    places = erase_entity(app.world, app.journal, entity, reason=why)
    left = app.journal.quarantined(entity)
    text = table(["worker", "records erased"], [(worker, len(each)) for worker, each in places.items()])
    text += "".join(
        f"\n{name} holds the key too, in bytes that are no record: look at it and delete it" for name in left
    )
    return Reply({"records": places, "quarantined": left}, text, refused=bool(left))


def _records(
    shell: Shell, since: str | None, until: str | None, last: int | None, worker: str | None, kind: str | None
) -> Iterator[dict[str, Any]]:
    if kind not in (None, "prediction", "outcome"):
        raise InvalidInput(f"--kind {kind}", cure="choose prediction or outcome")
    start = parse_instant(since, where="--since") if since else None
    end = parse_instant(until, where="--until") if until else None
    return shell.app.journal.read(start, end, last, worker=worker, kind=kind)


def _head(text: str) -> tuple[str, Head]:
    from ecluse.core.frame import Head

    name, _, rest = text.partition(":")
    number, _, digest = rest.partition(":")
    try:
        return name, Head(int(number), bytes.fromhex(digest))
    except ValueError:
        raise InvalidInput(f"--head {text}", cure="give a line that `ecluse journal verify` printed") from None


def register(app: Group) -> None:
    """Add these commands."""
    group = app.nest(
        "journal", "The journal of predictions and outcomes: check it, read it, take it elsewhere, erase a person."
    )
    for command in (verify, read, export, erase):
        group.add(command)
