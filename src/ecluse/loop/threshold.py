"""The decision threshold of a version: changed by a recorded, reversible decision, without a new version."""

from __future__ import annotations

from dataclasses import replace

from ecluse.core.errors import InvalidInput, NotAllowed
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.version import ModelVersion
from ecluse.loop.publish import publish


def change_threshold(
    world: World, settings: Settings, model: str, number: int, value: float, *, reason: str, actor: str
) -> ModelVersion:
    """Set the threshold (0 to 1) above which a binary model says yes; the fact names the one before, so it can be set back.

    Raises InvalidInput (not in [0, 1], or unchanged), NotAllowed (no binary model), NotFound, Conflict.
    """
    before = world.state.version(model, number)
    if before.threshold is None:
        raise NotAllowed(
            f"version {number} decides without a threshold", where=model, cure="only binary models have one"
        )
    if not 0 <= value <= 1:
        raise InvalidInput(f"threshold {value}", where=model, cure="give a probability between 0 and 1")
    if value == before.threshold:
        raise InvalidInput(f"the threshold of version {number} is {value} already", where=model)
    after = replace(before, threshold=float(value))
    evidence = {"before": before.threshold, "after": after.threshold}
    event = Event("threshold.changed", world.clock.now(), actor, model, number, reason, evidence)
    world.state.change_version(before, after, event)
    publish(world, settings)
    return after
