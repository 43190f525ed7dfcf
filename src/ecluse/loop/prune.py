"""Retention: delete the bytes of versions and runs nobody can need, never the record of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ecluse.core.errors import Corrupt, NotFound
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Retention, Settings
from ecluse.core.version import ModelVersion, Run, Stage
from ecluse.loop.publish import publish, rollback_targets


def prune(world: World, settings: Settings, model: str, dry_run: bool, *, actor: str = "") -> list[ModelVersion]:
    """Prune a model's versions by retention and delete bundles of old unregistered runs; returns the versions pruned (or to be).

    Marked first, then deleted: killed between the two, the next prune deletes what was left. Raises Conflict when a version changed
    meanwhile (then run it again), Unavailable.
    """
    versions = world.state.versions(model)
    judged = {each.number for each in versions if world.state.report(model, each.number) is not None}
    kept = kept_versions(world.state.rollout(model), versions, judged, settings.retention)
    leaving = [each for each in versions if not each.pruned and each.number not in kept]
    if dry_run:
        return leaving
    who = actor or world.actor
    now = world.clock.now()
    pruned = []
    for before in leaving:
        after = replace(before, pruned=True)
        event = Event("version.pruned", now, who, model, before.number, "retention", {"bundle": before.bundle})
        world.state.change_version(before, after, event)
        pruned.append(after)
    publish(world, settings)
    _delete(world, settings.retention, model, who)
    return pruned


def kept_versions(
    rollout: Rollout, versions: Sequence[ModelVersion], judged: set[int], retention: Retention
) -> frozenset[int]:
    """The numbers retention keeps: champion, the next rollback targets, the newest archived, candidates, held ones.

    A candidate is in Staging, or waits for its first gate report (``judged`` are those that have one). Pure.
    """
    there = {each.number: each for each in versions}
    archived = [each.number for each in versions if each.stage is Stage.ARCHIVED and not each.pruned]
    kept = {each.number for each in versions if each.held or each.stage in (Stage.PRODUCTION, Stage.STAGING)}
    kept |= {each.number for each in versions if each.stage is Stage.NONE and each.number not in judged}
    kept |= set(rollback_targets(rollout, there)[: retention.rollback])
    kept |= set(archived[len(archived) - retention.archived :] if retention.archived < len(archived) else archived)
    return frozenset(kept)


def _delete(world: World, retention: Retention, model: str, actor: str) -> None:
    """Delete bundles that only pruned versions or old unregistered runs name; read afresh, since others work too."""
    versions = world.state.versions()
    needed = {each.bundle for each in versions if not each.pruned}
    for version in versions:
        if version.model == model and version.pruned and version.bundle not in needed:
            world.bundles.delete(version.bundle)
    registered = {each.run for each in versions}
    loose = [run for run in world.state.runs(model) if run.id not in registered]
    keep = {run.bundle for run in loose[max(0, len(loose) - retention.runs) :]} | needed
    old = [run for run in loose if run.bundle not in keep and _exists(world, run)]
    if old:
        evidence = {"runs": [run.id for run in old], "bundles": sorted({run.bundle for run in old})}
        world.state.append(
            Event("version.pruned", world.clock.now(), actor, model, None, "retention of runs", evidence)
        )
    for run in old:
        world.bundles.delete(run.bundle)


def _exists(world: World, run: Run) -> bool:
    try:
        world.bundles.seal(run.bundle)
    except NotFound:
        return False
    except Corrupt:
        return True
    return True
