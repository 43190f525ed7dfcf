"""Mirror names: whether the tracking store still calls production what the mirror showed there. A moved alias decides nothing, and is told.

The look is cheap and reads only; the mirror puts the alias back. Both tell it, once until it was put back.
"""

from __future__ import annotations

from collections.abc import Callable

from ecluse.core.errors import NotFound
from ecluse.core.event import Event
from ecluse.core.ports import State, World

KIND = "mirror.altered"
LOOK_SECONDS = 3.0


def note_shown(state: State, model: str, champion: int | None) -> None:
    """What the mirror calls production now; None while it writes, so that nobody compares with what is being changed."""
    _remember(state, f"mirror.shown.{model}", "" if champion is None else str(champion))


def look_at_names(world: World, named: Callable[[str], int | None]) -> bool:
    """Compare each model's ``production`` with what was shown; whether any is to be put back. Raises Unavailable.

    ``named`` answers model -> our version (0: a stranger, None: the alias is gone), and raises NotFound where nothing was mirrored.
    """
    altered = False
    for model in sorted({each.model for each in world.state.versions()}):
        shown = world.state.meta(f"mirror.shown.{model}")
        try:
            found = named(model)
        except NotFound:
            continue
        if not shown or world.state.meta(f"mirror.shown.{model}") != shown:
            continue  # nothing was shown yet, or it is being changed at this moment
        if found == int(shown):
            forget_altered(world.state, model)
        else:
            altered = True
            tell_altered(world, model, int(shown), found)
    return altered


def tell_altered(world: World, model: str, champion: int, named: int | None) -> None:
    """The fact that somebody moved the alias, unless it was told and the alias not put back since."""
    if world.state.meta(_told(model)) == str(named):
        return
    whom = "nothing" if named is None else f"version {named}" if named else "a stranger"
    reason = f"the tracking store calls {whom} production: it decides nothing, and is put back to version {champion}"
    facts = {"named": named, "champion": champion}
    world.state.append(Event(KIND, world.clock.now(), world.actor, model, champion, reason, facts))
    _remember(world.state, _told(model), str(named))


def forget_altered(state: State, model: str) -> None:
    """The alias is as it should be."""
    _remember(state, _told(model), "")


def _told(model: str) -> str:
    return f"{KIND}.{model}"


def _remember(state: State, key: str, text: str) -> None:
    if (state.meta(key) or "") != text:
        state.set_meta(key, text)
