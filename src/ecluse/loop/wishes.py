"""Wishes for versions to be kept warm: granted to versions that passed their gates, until the next release of their model."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ecluse.core.codec import canonical
from ecluse.core.errors import NotFound
from ecluse.core.event import Event
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.version import ModelVersion, Stage
from ecluse.core.wish import Wish

WISHES = "wishes"
"""Where the state remembers them: model -> [version, revision of the rollout it was granted under]."""
_KEEPABLE = (Stage.STAGING, Stage.PRODUCTION, Stage.ARCHIVED)


def decide_wishes(world: World) -> None:
    """Grant or refuse what workers recorded; each answer stands in the ledger. Raises Unavailable, Conflict when somebody else decides."""
    for wish in world.publisher.wishes():
        before = world.state.meta(WISHES)
        refusal = _refusal(world, wish)
        reason = f"refused: {refusal}" if refusal else "kept warm until the next release"
        event = Event("version.wished", _now(world), wish.by or world.actor, wish.model, wish.number, reason)
        if refusal:
            world.state.append(event)
        else:
            granted = {
                **json.loads(before or "{}"),
                wish.model: [wish.number, world.state.rollout(wish.model).revision],
            }
            world.state.swap_meta(WISHES, before, canonical(granted).decode(), event)
        world.publisher.decided(wish)


def wished(world: World, rollout: Rollout) -> int | None:
    """The version of this model that was granted since its last release."""
    number, revision = json.loads(world.state.meta(WISHES) or "{}").get(rollout.model, (None, None))
    return number if revision == rollout.revision else None


def may_be_kept(version: ModelVersion) -> bool:
    """Whether a version passed its gates once and is still there."""
    return not version.pruned and version.stage in _KEEPABLE


def _refusal(world: World, wish: Wish) -> str:
    try:
        version = world.state.version(wish.model, wish.number)
    except NotFound:
        return "there is no such version"
    if not may_be_kept(version):
        return "it was pruned" if version.pruned else f"it is in stage {version.stage.value}"
    return "" if world.state.rollout(wish.model).champion is not None else "the model was never released"


def _now(world: World) -> datetime:
    try:
        return world.clock.now()
    except NotFound:
        return datetime.now(UTC)  # a data clock without data yet
