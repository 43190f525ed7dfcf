"""A version becomes champion: decided by pure rules, made true by one transaction, then published."""

from __future__ import annotations

from ecluse.core import rollout as rules
from ecluse.core.codec import digest
from ecluse.core.errors import Corrupt, NotAllowed
from ecluse.core.event import Event
from ecluse.core.failpoint import failpoint
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Settings
from ecluse.core.version import ModelVersion
from ecluse.loop.publish import publish, trusted_keys


def promote(
    world: World, settings: Settings, model: str, number: int, *, reason: str, actor: str, override: str = ""
) -> Rollout:
    """Put a version into Production and publish it; ``override`` is the named reason to do so without a passed gate report.

    Raises NotFound (no such version, or its bundle was pruned), NotAllowed (stage, gate report), Corrupt (damaged or wrongly sealed
    bundle), Conflict (somebody else changed production first), Unavailable. After Unavailable from the publication the version *is*
    champion, and workers follow with the next release command or at the start of a server.
    """
    failpoint("promote.start")
    before = world.state.rollout(model)
    version = world.state.version(model, number)
    report = world.state.report(model, number)
    now = world.clock.now()
    failpoint("promote.read")
    after = rules.promote(before, version, report, now, override=override)
    check_seal(world, version)
    world.bundles.get(version.bundle)
    failpoint("promote.decided")
    evidence = {
        "bundle": version.bundle,
        "from": before.champion,
        "report": None if report is None else digest(report),
        "override": override,
    }
    world.state.move(before, after, Event("version.promoted", now, actor, model, number, reason, evidence))
    failpoint("promote.moved")
    publish(world, settings)
    failpoint("promote.published")
    return after


def check_seal(world: World, version: ModelVersion) -> None:
    """Raises NotAllowed when the bundle is sealed by a key workers will not trust, NotFound when it is gone, Corrupt for another's seal."""
    seal = world.bundles.seal(version.bundle)
    if seal.payload != version.bundle:
        raise Corrupt(
            f"the seal beside version {version.number} is of another bundle", where=version.model, cure="train again"
        )
    if seal.key not in trusted_keys(world):
        raise NotAllowed(
            f"version {version.number} is sealed by key {seal.key[:16]}…, which this profile does not trust",
            where=version.model,
            cure="train it again under this profile, or restore the profile's sealing key",
        )
