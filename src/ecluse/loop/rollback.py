"""An earlier champion serves again: no training, no gates, no download; workers hold it warm."""

from __future__ import annotations

from ecluse.core import rollout as rules
from ecluse.core.errors import Conflict, NotAllowed
from ecluse.core.event import Event
from ecluse.core.failpoint import failpoint
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Settings
from ecluse.loop.attest import check_served
from ecluse.loop.promote import check_seal
from ecluse.loop.publish import can_serve, publish, rollback_targets


def rollback(
    world: World,
    settings: Settings,
    model: str,
    *,
    to: int | None = None,
    leaving: int | None = None,
    reason: str,
    actor: str,
) -> Rollout:
    """Make the version before champion again (the newest that was neither pruned nor rejected), or ``to``, any that has served.

    ``leaving`` is the champion the caller means to leave: when another one reigns by now, somebody reacted first (Conflict).
    Raises NotAllowed (nothing to go back to, or it may not serve), Conflict (somebody else changed production first), NotFound,
    Corrupt, Unavailable; see :func:`ecluse.loop.promote.promote` for what holds after each.
    """
    failpoint("rollback.start")
    before = world.state.rollout(model)
    versions = {each.number: each for each in world.state.versions(model)}
    failpoint("rollback.read")
    if leaving is not None and before.champion != leaving:
        raise Conflict(
            f"version {before.champion} is in Production, not {leaving}",
            where=model,
            cure="look again: `ecluse status`",
        )
    usable = rollback_targets(before, versions)
    if to is None and before.previous and not usable:
        raise NotAllowed(
            "every earlier production version was pruned or rejected", where=model, cure="promote another version"
        )
    after = rules.roll_back(before, usable[0] if to is None and usable else to)
    assert after.champion is not None
    target = versions[after.champion]
    if not can_serve(target):
        word = "pruned" if target.pruned else "rejected"
        cure = "choose among " + (", ".join(map(str, usable)) or "none")
        raise NotAllowed(f"version {target.number} was {word}", where=model, cure=cure)
    check_served(world, target)
    check_seal(world, target)
    failpoint("rollback.decided")
    evidence = {"bundle": target.bundle, "from": before.champion}
    event = Event("version.rolled_back", world.clock.now(), actor, model, target.number, reason, evidence)
    world.state.move(before, after, event)
    failpoint("rollback.moved")
    publish(world, settings)
    failpoint("rollback.published")
    return after
