"""API keys: shown once, kept as hashes, ended now or later, and in every published document."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.loop.worlds import SETTINGS, world_in

from ecluse.adapters.clock import DataClock
from ecluse.core.access import hash_key
from ecluse.core.document import read_document
from ecluse.core.errors import Conflict, Corrupt, InvalidInput, NotAllowed, NotFound
from ecluse.core.event import broken_at
from ecluse.core.ports import World
from ecluse.core.settings import Time
from ecluse.loop.keys import add_key, revoke_key
from ecluse.loop.publish import KEYS, grants, publish

HOUR = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return world_in(tmp_path)


def add(world: World, name: str, *scopes: str, lifetime: timedelta | None = None) -> str:
    return add_key(world, SETTINGS, name, scopes or ("predict",), lifetime, actor="ana")[0]


def test_a_key_is_published_and_kept_only_as_its_hash(world: World, tmp_path: Path) -> None:
    key = add(world, "shop", "predict", "outcomes", lifetime=HOUR)
    assert len(key) >= 43
    signed = world.publisher.current()
    assert signed is not None
    (grant,) = read_document(signed.payload).keys
    assert (grant.name, grant.scopes, grant.sha256) == ("shop", ("outcomes", "predict"), hash_key(key))
    assert grant.expires is not None
    assert grant.lives(datetime.now(UTC))
    assert not grant.lives(datetime.now(UTC) + HOUR)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert key not in str(list(world.state.ledger()))


def test_keys_differ_and_live_side_by_side(world: World) -> None:
    keys = {add(world, f"k{i}") for i in range(5)}
    assert len(keys) == 5
    assert [grant.name for grant in grants(world)] == [f"k{i}" for i in range(5)]


def test_revoking_ends_a_key_now_later_or_when_it_would_have_ended(world: World) -> None:
    for name, lifetime in (("now", None), ("later", None), ("sooner", HOUR)):
        add(world, name, lifetime=lifetime)
    now = datetime.now(UTC)
    ended = {
        name: revoke_key(world, SETTINGS, name, after, reason="leaked", actor="ana")
        for name, after in (("now", timedelta(0)), ("later", HOUR), ("sooner", 2 * HOUR))
    }
    assert not ended["now"].lives(datetime.now(UTC))
    assert ended["later"].lives(now)
    assert not ended["later"].lives(datetime.now(UTC) + HOUR)
    assert not ended["sooner"].lives(now + HOUR + timedelta(minutes=1)), "never longer than before"
    assert all(grant.revoked for grant in publish(world, SETTINGS).keys)
    told = [row.event for row in world.state.ledger()]
    assert [event.kind for event in told] == ["key.added"] * 3 + ["key.revoked"] * 3
    assert told[-1].reason == "sooner: leaked"
    assert broken_at(world.state.ledger()) is None


def test_what_cannot_be_done(world: World) -> None:
    add(world, "shop")
    revoke_key(world, SETTINGS, "shop", timedelta(0), reason="", actor="ana")
    with pytest.raises(NotAllowed, match="ended"):
        revoke_key(world, SETTINGS, "shop", timedelta(0), reason="", actor="ana")
    with pytest.raises(Conflict, match="there is or was"):
        add(world, "shop")
    with pytest.raises(NotFound, match="nobody"):
        revoke_key(world, SETTINGS, "nobody", timedelta(0), reason="", actor="ana")
    for name in ("", "Shop", "a b", "x" * 65, "../etc"):
        with pytest.raises(InvalidInput, match="name a key"):
            add(world, name)
    with pytest.raises(InvalidInput, match="no scope is called 'admin'"):
        add(world, "other", "predict", "admin")
    with pytest.raises(InvalidInput, match="lifetime"):
        add(world, "other", lifetime=timedelta(0))
    assert len(grants(world)) == 1


def test_a_data_clock_does_not_make_keys_live_longer(tmp_path: Path) -> None:
    first = world_in(tmp_path)
    world = replace(first, clock=DataClock(first.state))
    settings = replace(SETTINGS, time=Time("data"))
    _, grant = add_key(world, settings, "shop", ("predict",), HOUR, actor="ana")
    assert grant.expires is not None
    assert abs(grant.expires - datetime.now(UTC) - HOUR) < timedelta(minutes=1)


def test_keys_that_cannot_be_read_are_said_to_be_corrupt(world: World) -> None:
    for text in ("{", "[1]", '[{"name": "a"}]'):
        world.state.set_meta(KEYS, text)
        with pytest.raises(Corrupt, match="API keys"):
            publish(world, SETTINGS)
