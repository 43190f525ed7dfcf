"""A run becomes a version: the next number of its model, with the bundle it made."""

from __future__ import annotations

from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.version import ModelVersion


def register(world: World, settings: Settings, run_id: str, *, reason: str, actor: str) -> ModelVersion:
    """Make a run (id or unique prefix) a version; a run that is one already stays that one.

    Raises NotFound for no such run or when its bundle was deleted, Corrupt when the bundle is damaged.
    """
    run = world.state.run(run_id)
    world.bundles.get(run.bundle)  # a version without its bytes could never serve
    now = world.clock.now()
    event = Event(
        "version.registered",
        now,
        actor,
        model=run.model,
        reason=reason,
        evidence={"run": run.id, "bundle": run.bundle, "recipe": run.recipe, "dataset": run.dataset},
    )
    return world.state.register(run, now, event)
