"""What the control API shows, as JSON values read from the authority."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ecluse.core.codec import digest, to_plain
from ecluse.core.errors import NotFound
from ecluse.core.ports import World
from ecluse.loop.publish import known_models


def known(world: World, model: str) -> str:
    """The model's name. Raises NotFound when there is no such model."""
    names = known_models(world)
    if model not in names:
        raise NotFound(f"model {model!r}", cure="models: " + (", ".join(names) or "none yet"))
    return model


def version(world: World, model: str, number: int) -> dict[str, Any]:
    """A version with its run and, when it was judged, its report. Raises NotFound."""
    found = world.state.version(model, number)
    judged = world.state.report(model, number)
    return {
        "version": to_plain(found),
        "run": to_plain(world.state.run(found.run)),
        "report": None if judged is None else {"digest": digest(judged), **to_plain(judged)},
    }


def report(world: World, model: str, number: int) -> dict[str, Any]:
    """A version's newest gate report. Raises NotFound."""
    world.state.version(model, number)
    judged = world.state.report(model, number)
    if judged is None:
        raise NotFound(f"a gate report of version {number} of {model}", cure=f"judge it: `ecluse gate {number}`")
    return {"digest": digest(judged), **to_plain(judged)}


def history(world: World, after: int, limit: int, model: str | None, kind: str) -> dict[str, Any]:
    """At most ``limit`` rows behind row ``after``; ``next`` is the ``after`` of the page that follows (None: there is none)."""
    rows = (row for row in world.state.ledger(model=model, after=after) if row.event.kind.startswith(kind))
    page = list(islice(rows, limit + 1))
    more = len(page) > limit
    return {"rows": to_plain(page[:limit]), "next": page[limit - 1].sequence if more else None}
