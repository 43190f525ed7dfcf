"""Attest: what the ledger knows of a release. A row written into the state by hand has no fact in the chain: it releases and publishes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from ecluse.core.codec import digest
from ecluse.core.document import Document, ServedModel, ServedVersion
from ecluse.core.errors import Corrupt, NotAllowed
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.version import GateReport, ModelVersion

RELEASES = ("version.promoted", "version.rolled_back")
DOUBT = "state.doubt"
"""Where the state remembers what was doubted last, so that it is told once."""
_log = logging.getLogger("ecluse.loop")


def check_report(world: World, version: ModelVersion, report: GateReport) -> None:
    """Raises NotAllowed unless the ledger tells of this very report, and the version still has the bundle it was registered with.

    Linear in the model's facts.
    """
    facts = [row.event for row in world.state.ledger(model=version.model)]
    name = digest(report)
    if not any(event.kind == "version.gated" and event.evidence.get("report") == name for event in facts):
        raise NotAllowed(
            f"no gates made the report of version {version.number}",
            where=version.model,
            cure=f"judge it: `ecluse gate {version.number}`",
        )
    _check_bundle(version, facts)


def check_served(world: World, version: ModelVersion) -> None:
    """Raises NotAllowed unless the ledger tells that the version was released once, with the bundle it has. Linear in the model's facts."""
    facts = [row.event for row in world.state.ledger(model=version.model)]
    if not any(event.kind == "version.promoted" and event.version == version.number for event in facts):
        raise NotAllowed(
            f"no recorded decision ever released version {version.number}",
            where=version.model,
            cure="promote it, with its gates",
        )
    _check_bundle(version, facts)


def _check_bundle(version: ModelVersion, facts: Iterable[Event]) -> None:
    for event in facts:
        registered = event.kind == "version.registered" and event.version == version.number
        if registered and event.evidence.get("bundle", version.bundle) != version.bundle:
            raise NotAllowed(
                f"version {version.number} has another bundle than it was registered with",
                where=version.model,
                cure="find out who wrote into the database; restore a backup of it",
            )


def check_champions(world: World, before: Document | None, after: Document) -> None:
    """Raises Corrupt when a champion, its bundle or its threshold is new and no recorded decision made it so; the doubt is told in the ledger,
    once.

    Costs nothing while the champions stay the same; else it is linear in the facts of those that changed.
    """
    for model, served in after.models.items():
        old = None if before is None else before.models.get(model)
        if served.champion is None or (old is not None and _champion(old) == _champion(served)):
            continue
        shown = served.versions[str(served.champion)]
        if why := _doubt(world, model, served.champion, shown):
            _tell_doubt(world, model, served.champion, why)
            raise Corrupt(
                f"the state has version {served.champion} in Production {why}",
                where=f"state, {model}",
                cure="find out who wrote into the database; restore a backup of it",
            )


def _champion(served: ServedModel) -> tuple[int | None, ServedVersion | None]:
    return served.champion, None if served.champion is None else served.versions[str(served.champion)]


def _doubt(world: World, model: str, number: int, shown: ServedVersion) -> str:
    """What the ledger knows nothing of; empty when it tells of everything."""
    released: Event | None = None
    threshold = world.state.run(world.state.version(model, number).run).threshold
    for row in world.state.ledger(model=model):
        event = row.event
        if event.kind in RELEASES:
            released = event
        elif event.kind == "threshold.changed" and event.version == number:
            threshold = event.evidence.get("after", threshold)
    if released is None or released.version != number:
        return "by no recorded decision"
    if released.evidence.get("bundle") != shown.bundle:
        return "with a bundle nobody released"
    return "" if threshold == shown.threshold else "with a threshold nobody set"


def _tell_doubt(world: World, model: str, number: int, why: str) -> None:
    told = json.dumps([model, number, why])
    if world.state.meta(DOUBT) == told:
        return
    reason = f"version {number} is in Production {why}: it is not published"
    world.state.append(Event("state.doubted", world.clock.now(), world.actor, model, number, reason))
    world.state.set_meta(DOUBT, told)
    _log.warning("state doubted", extra={"facts": {"model": model, "version": number, "why": reason}})


def tell_refusal(world: World, model: str, number: int, asked: str, refusal: NotAllowed, actor: str) -> None:
    """A release, or an approval of one, that the rules forbid is a fact: who asked for it, and why not."""
    event = Event("release.refused", world.clock.now(), actor, model, number, refusal.what, {"asked": asked})
    world.state.append(event)
