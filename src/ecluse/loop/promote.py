"""A version becomes champion: decided by pure rules, made true by one transaction, then published."""

from __future__ import annotations

import logging
from datetime import datetime

from ecluse.core import rollout as rules
from ecluse.core.codec import digest
from ecluse.core.errors import Corrupt, NotAllowed
from ecluse.core.event import Event
from ecluse.core.failpoint import failpoint
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Settings
from ecluse.core.version import GateReport, ModelVersion
from ecluse.loop.approve import check_approved
from ecluse.loop.attest import check_report, tell_refusal
from ecluse.loop.publish import publish, trusted_keys

_log = logging.getLogger("ecluse.loop")


def promote(
    world: World, settings: Settings, model: str, number: int, *, reason: str, actor: str, override: str = ""
) -> Rollout:
    """Put a version into Production and publish it; ``override`` names who takes it on to do so past gates and approvals.

    What is refused, and what an override went past, is told in the ledger. Raises NotFound (no such version, or its bundle was pruned),
    NotAllowed (stage, gate report, approvals, a report or bundle the ledger knows nothing of), Corrupt (damaged or wrongly sealed bundle),
    Conflict (somebody else changed production first), Unavailable. After Unavailable from the publication the version *is*
    champion, and workers follow with the next release command or at the start of a server.
    """
    failpoint("promote.start")
    before = world.state.rollout(model)
    version = world.state.version(model, number)
    report = world.state.report(model, number)
    now = world.clock.now()
    failpoint("promote.read")
    try:
        after = rules.promote(before, version, report, now, override=override)
        past, approvals = _ask_rules(world, settings, before, version, report, now, override)
    except NotAllowed as refusal:
        tell_refusal(world, model, number, "promote", refusal, actor)
        raise
    check_seal(world, version)
    world.bundles.get(version.bundle)
    failpoint("promote.decided")
    evidence = {
        "bundle": version.bundle,
        "from": before.champion,
        "report": None if report is None else digest(report),
        "override": override,
        "approvals": approvals,
        "past": past,
    }
    world.state.move(before, after, Event("version.promoted", now, actor, model, number, reason, evidence))
    failpoint("promote.moved")
    if past:
        _tell_override(world, model, number, f"{override}: {reason}; past: {past}", actor)
    publish(world, settings)
    failpoint("promote.published")
    return after


def _ask_rules(
    world: World,
    settings: Settings,
    before: Rollout,
    version: ModelVersion,
    report: GateReport | None,
    now: datetime,
    override: str,
) -> tuple[str, list[int]]:
    """What an override goes past (empty: nothing), and the facts that approve. Raises NotAllowed, except for an override."""
    try:
        rules.promote(before, version, report, now)
        assert report is not None, "the rules ask for a report"
        check_report(world, version, report)
        standing = check_approved(world, settings, version, report)
    except NotAllowed as refusal:
        if not override:
            raise
        return refusal.what, []
    return "", [word.sequence for word in standing.given]


def _tell_override(world: World, model: str, number: int, what: str, actor: str) -> None:
    """Loud: a fact of its own, which people can be called about, and a line on stderr."""
    world.state.append(Event("policy.overridden", world.clock.now(), actor, model, number, what))
    _log.warning("policy overridden", extra={"facts": {"model": model, "version": number, "by": actor, "why": what}})


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
