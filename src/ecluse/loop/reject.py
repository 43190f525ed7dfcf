"""A version is refused for good: it can neither be promoted nor rolled back to."""

from __future__ import annotations

from dataclasses import replace

from ecluse.core.errors import NotAllowed
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.version import ModelVersion, Stage
from ecluse.loop.publish import publish


def reject(world: World, settings: Settings, model: str, number: int, *, reason: str, actor: str) -> ModelVersion:
    """Reject a version that is not in Production. Raises NotAllowed, NotFound, Conflict."""
    before = world.state.version(model, number)
    if before.stage is Stage.PRODUCTION:
        raise NotAllowed(f"version {number} is in Production", where=model, cure="run `ecluse rollback` first")
    if before.stage is Stage.REJECTED:
        raise NotAllowed(f"version {number} was rejected already", where=model, cure="see `ecluse history`")
    after = replace(before, stage=Stage.REJECTED)
    evidence = {"bundle": before.bundle, "stage": before.stage.value}
    event = Event("version.rejected", world.clock.now(), actor, model, number, reason, evidence)
    world.state.change_version(before, after, event)
    publish(world, settings)  # workers need not keep it warm any longer
    return after
