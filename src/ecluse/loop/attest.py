"""Attest: what the ledger knows of a release. A row written into the state by hand has no fact in the chain: it releases and publishes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from ecluse.core.codec import digest
from ecluse.core.document import Document
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
    """Raises Corrupt when a champion that is not published yet was released by no recorded decision; the doubt is told in the ledger, once.

    Costs nothing while the champions stay the same; else it is linear in the facts of those that changed.
    """
    for model, served in after.models.items():
        old = None if before is None else before.models.get(model)
        if served.champion is None or (old is not None and _champion(old) == _champion(served)):
            continue
        bundle = served.versions[str(served.champion)].bundle
        if not _released(world, model, served.champion, bundle):
            _tell_doubt(world, model, served.champion, bundle)
            raise Corrupt(
                f"the state has version {served.champion} in Production, which no recorded decision put there",
                where=f"state, {model}",
                cure="find out who wrote into the database; restore a backup of it",
            )


def _champion(served: object) -> tuple[int | None, str]:
    champion = getattr(served, "champion", None)
    versions = getattr(served, "versions", {})
    return champion, versions[str(champion)].bundle if champion is not None else ""


def _released(world: World, model: str, number: int, bundle: str) -> bool:
    newest = _newest(row.event for row in world.state.ledger(model=model))
    return newest is not None and (newest.version, newest.evidence.get("bundle")) == (number, bundle)


def _newest(events: Iterable[Event]) -> Event | None:
    newest = None
    for event in events:
        if event.kind in RELEASES:
            newest = event
    return newest


def _tell_doubt(world: World, model: str, number: int, bundle: str) -> None:
    told = json.dumps([model, number, bundle])
    if world.state.meta(DOUBT) == told:
        return
    reason = f"version {number} is in Production by no recorded decision: it is not published"
    now = world.clock.now()
    world.state.append(Event("state.doubted", now, world.actor, model, number, reason, {"bundle": bundle}))
    world.state.set_meta(DOUBT, told)
    _log.warning("state doubted", extra={"facts": {"model": model, "version": number, "why": reason}})


def tell_refusal(world: World, model: str, number: int, asked: str, refusal: NotAllowed, actor: str) -> None:
    """A release, or an approval of one, that the rules forbid is a fact: who asked for it, and why not."""
    event = Event("release.refused", world.clock.now(), actor, model, number, refusal.what, {"asked": asked})
    world.state.append(event)
