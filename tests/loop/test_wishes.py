"""Wishes for versions to be kept warm: what workers record, the control plane grants or refuses, until the next release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.loop.worlds import MODEL, SETTINGS, candidate, train, world_in

from ecluse.adapters.wishes_files import WishFiles
from ecluse.core.ports import World
from ecluse.core.settings import Retention
from ecluse.core.wish import Wish
from ecluse.loop.promote import promote
from ecluse.loop.publish import converge, publish
from ecluse.loop.register import register
from ecluse.loop.rollback import rollback

NONE_BACK = replace(SETTINGS, retention=Retention(rollback=0))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 1 archived, 2 serving, 3 gated."""
    world = world_in(tmp_path)
    for name, number in (("a", 1), ("b", 2)):
        candidate(world, name)
        promote(world, NONE_BACK, MODEL, number, reason="better", actor="ana")
    candidate(world, "c")
    return world


def warm(world: World) -> set[str]:
    return set(publish(world, NONE_BACK).models[MODEL].versions)


def ask(world: World, number: int, model: str = MODEL) -> None:
    WishFiles(world.home / "wishes").put(Wish(model, number, "shop"))
    converge(world, NONE_BACK)
    assert world.publisher.wishes() == ()


def last(world: World) -> tuple[str, str, str]:
    event = list(world.state.ledger())[-1].event
    return event.kind, event.actor, event.reason


@pytest.mark.parametrize("number", [1, 3])
def test_a_version_that_passed_its_gates_is_kept_warm_until_the_next_release(world: World, number: int) -> None:
    assert warm(world) == {"2"}
    generation = publish(world, NONE_BACK).generation
    ask(world, number)
    assert warm(world) == {"2", str(number)}
    assert publish(world, NONE_BACK).generation > generation
    assert last(world) == ("version.wished", "shop", "kept warm until the next release")
    rollback(world, NONE_BACK, MODEL, reason="slow", actor="ana")
    assert warm(world) == {"1"}


def test_the_newest_wish_of_a_model_stands(world: World) -> None:
    ask(world, 1)
    ask(world, 3)
    assert warm(world) == {"2", "3"}


@pytest.mark.parametrize(
    ("number", "model", "why"),
    [(9, MODEL, "no such version"), (4, MODEL, "stage None"), (1, "other", "no such version")],
)
def test_other_wishes_are_refused_and_told(world: World, number: int, model: str, why: str) -> None:
    register(world, SETTINGS, train(world, "d").id, reason="trained", actor="ana")
    ask(world, number, model)
    assert why in last(world)[2]
    assert warm(world) == {"2"}


def test_what_cannot_be_read_is_no_wish(world: World, tmp_path: Path) -> None:
    WishFiles(world.home / "wishes").put(Wish(MODEL, 1))
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"model": 1}')):
        (tmp_path / "wishes" / name).write_text(text)
    assert world.publisher.wishes() == (Wish(MODEL, 1),)
    assert len(list((tmp_path / "wishes").glob("*.json"))) == 1


def test_a_wish_that_came_meanwhile_is_not_lost(tmp_path: Path) -> None:
    wishes = WishFiles(tmp_path / "wishes")
    wishes.put(Wish(MODEL, 1))
    wishes.put(Wish(MODEL, 2))
    wishes.done(Wish(MODEL, 1))
    assert wishes.pending() == (Wish(MODEL, 2),)
