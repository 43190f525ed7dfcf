"""Audit hold: a held version is never pruned, until it is released."""

from __future__ import annotations

from dataclasses import replace

from ecluse.core.errors import NotAllowed
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.version import ModelVersion


def hold(world: World, model: str, number: int, *, reason: str, actor: str) -> ModelVersion:
    """Keep a version's bytes whatever retention says. Raises NotAllowed (held or pruned already), NotFound, Conflict."""
    return _set(world, model, number, held=True, reason=reason, actor=actor)


def release(world: World, model: str, number: int, *, reason: str, actor: str) -> ModelVersion:
    """Leave a version to retention again. Raises NotAllowed (not held), NotFound, Conflict."""
    return _set(world, model, number, held=False, reason=reason, actor=actor)


def _set(world: World, model: str, number: int, *, held: bool, reason: str, actor: str) -> ModelVersion:
    before = world.state.version(model, number)
    if before.held is held:
        raise NotAllowed(f"version {number} is {'held already' if held else 'not held'}", where=model)
    if held and before.pruned:
        raise NotAllowed(f"version {number} was pruned: there is nothing left to hold", where=model)
    after = replace(before, held=held)
    event = Event("version.held", world.clock.now(), actor, model, number, reason, {"held": held})
    world.state.change_version(before, after, event)
    return after
