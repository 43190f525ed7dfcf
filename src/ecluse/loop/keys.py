"""API keys: made, listed, given their end. The key itself is shown once and kept nowhere; state and document hold its hash."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ecluse.core.access import KeyGrant, check_scopes, hash_key
from ecluse.core.codec import canonical
from ecluse.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.publish import KEYS, publish, read_grants

PREFIX = "ecl_"
"""Begins every key, so that whoever scans files for secrets finds one that leaked."""
BYTES = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def add_key(
    world: World, settings: Settings, name: str, scopes: tuple[str, ...], lifetime: timedelta | None, *, actor: str
) -> tuple[str, KeyGrant]:
    """Make a key, and publish it to the workers: the key itself, to be shown once, and what is kept of it.

    Raises InvalidInput (name, scope, lifetime), Conflict when a key had that name before (several may live at once: rotate by adding the next).
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} cannot name a key", cure="use a-z 0-9 _ . - and at most 64 of them")
    if lifetime is not None and lifetime <= timedelta(0):
        raise InvalidInput("a key needs a lifetime", cure="write one such as 90d, or leave it out")
    key = PREFIX + secrets.token_urlsafe(BYTES)
    expires = None if lifetime is None else _now() + lifetime
    grant = KeyGrant(name, hash_key(key), check_scopes(scopes), expires)
    text = world.state.meta(KEYS)
    known = read_grants(text)
    if any(each.name == name for each in known):
        raise Conflict(f"there is or was a key named {name!r}", cure="choose another name, such as one with a number")
    _swap(world, text, (*known, grant), "key.added", actor, {"key": name, "scopes": grant.scopes, "expires": expires})
    publish(world, settings)
    return key, grant


def revoke_key(world: World, settings: Settings, name: str, after: timedelta, *, reason: str, actor: str) -> KeyGrant:
    """End a key now, or ``after`` a while in which its holder changes to the next. Raises NotFound, NotAllowed when it ended before."""
    text = world.state.meta(KEYS)
    known = read_grants(text)
    before = next((each for each in known if each.name == name), None)
    if before is None:
        raise NotFound(f"no key named {name!r}", cure="`ecluse keys list` names them")
    now = _now()
    if not before.lives(now):
        raise NotAllowed(
            f"key {name!r} ended {format_instant(before.expires or now)}", cure="nothing is left to revoke"
        )
    end = now + after
    grant = replace(before, expires=end if before.expires is None else min(end, before.expires), revoked=True)
    kept = tuple(grant if each.name == name else each for each in known)
    _swap(world, text, kept, "key.revoked", actor, {"key": name, "expires": grant.expires}, f"{name}: {reason}")
    publish(world, settings)
    return grant


def _swap(
    world: World,
    before: str | None,
    after: tuple[KeyGrant, ...],
    kind: str,
    actor: str,
    evidence: dict[str, Any],
    reason: str = "",
) -> None:
    ordered = tuple(sorted(after, key=lambda grant: grant.name))
    event = Event(kind, _project_time(world), actor, reason=reason, evidence=evidence)
    world.state.swap_meta(KEYS, before, canonical(ordered).decode(), event)


def _now() -> datetime:
    """The wall clock: keys end by it, whatever the project's data clock says."""
    return datetime.now(UTC)


def _project_time(world: World) -> datetime:
    try:
        return world.clock.now()
    except NotFound:
        return _now()  # a data clock without data yet
