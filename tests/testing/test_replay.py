"""Replay: what the loop would have done by the rules of now, told from a real state, of which nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.loop.worlds import MODEL, NOW, SETTINGS, candidate, world_in

from ecluse.core.codec import canonical, digest_bytes
from ecluse.core.errors import InvalidInput
from ecluse.core.event import Event, broken_at
from ecluse.core.loop_settings import Policy, Triggers
from ecluse.core.ports import World
from ecluse.loop.promote import promote
from ecluse.testing.replay import FAULTS, Replayed, replay
from ecluse.testing.twins import VirtualTime

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
END = BEGAN + timedelta(days=60)
SOON = BEGAN + timedelta(days=15)
AUTOMATIC = replace(SETTINGS, policy=Policy(promotion="automatic"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 1 served; then each week of two months a window was judged, and drifted."""
    world = world_in(tmp_path, clock=VirtualTime(NOW))
    declaration = canonical({"models": [{"name": MODEL}]})
    world.state.save_declaration(digest_bytes(declaration), declaration)
    promote(world, SETTINGS, MODEL, candidate(world, "a").number, reason="first", actor="ana")
    for week in range(8):
        at = BEGAN + timedelta(days=7 * week, hours=3)
        evidence = {"key": f"week {week}", "findings": []}
        for kind in ("monitor.judged", "drift.detected"):
            world.state.append(Event(kind, at, "monitor", MODEL, 1, "it moved", evidence))
    return world


def told(world: World, **limits: object) -> Replayed:
    return replay(world, replace(AUTOMATIC, triggers=Triggers(**limits)), BEGAN, END)  # type: ignore[arg-type]


def test_it_says_what_the_rules_of_now_would_have_done(world: World) -> None:
    assert told(world).counts == {"retrainings": 8, "releases": 8}
    calm = told(world, cool_down=timedelta(days=20))
    assert calm.counts == {"retrainings": 3, "releases": 3, "held back: cool_down": 5}
    wary = told(world, hysteresis=2)
    assert wary.counts["retrainings"] == 4
    assert wary.counts["held back: hysteresis"] == 4
    by_hand = replay(world, replace(SETTINGS, policy=Policy(retrain="manual")), BEGAN, END)
    assert by_hand.counts["retrainings"] == 0
    assert [row.event.evidence["command"] for row in by_hand.rows] == ["Wait"] * 8


def test_schedules_run_in_virtual_time(world: World) -> None:
    monthly = told(world, on=("schedule",), every=timedelta(days=30))
    assert monthly.counts["retrainings"] == 2
    assert monthly.counts["held back: off"] == 8


def test_nothing_of_the_real_state_changes(world: World) -> None:
    def seen() -> tuple[object, ...]:
        state = world.state
        return list(state.ledger()), state.versions(), state.runs(), state.rollout(MODEL), state.generation()

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(world.home.rglob("*")) if path.is_file()}

    before = seen(), files()
    replay(world, AUTOMATIC, BEGAN, SOON, faults=tuple(FAULTS), seed=4)
    assert (seen(), files()) == before
    assert broken_at(world.state.ledger()) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_survived_and_the_seed_tells_the_same_again(world: World, fault: str) -> None:
    one, two = (replay(world, AUTOMATIC, BEGAN, SOON, faults=(fault,), seed=5) for _ in range(2))
    assert one.counts == two.counts
    assert [row.event.reason for row in one.rows] == [row.event.reason for row in two.rows]
    assert one.counts["retrainings"] >= 1
    if fault == "storm":
        assert one.counts["held back: cool_down"] > 100


def test_a_project_without_a_version_is_given_one_and_told_so(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    declaration = canonical({"models": [{"name": MODEL}]})
    world.state.save_declaration(digest_bytes(declaration), declaration)
    done = replay(world, AUTOMATIC, BEGAN, SOON, faults=("storm",))
    assert done.assumed == [MODEL]
    assert done.counts["releases"] >= 1


def test_what_cannot_be_told_is_refused(world: World) -> None:
    asks: list[Callable[[], Replayed]] = [
        lambda: replay(world, AUTOMATIC, END, BEGAN),
        lambda: replay(world, AUTOMATIC, BEGAN, BEGAN + timedelta(days=2_000)),
        lambda: replay(world, AUTOMATIC, BEGAN, SOON, faults=("thunder",)),
    ]
    for ask in asks:
        with pytest.raises(InvalidInput):
            ask()
