"""M3: a thousand triggers in ten minutes from five detectors, trainers that fail, kills, sleepers: the loop stays calm and says why."""

from __future__ import annotations

import functools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.storms import DETECTORS, MODEL, SETTINGS, broken, starts, storm
from tests.loop.worlds import SETTINGS as REAL
from tests.loop.worlds import candidate, world_in

from ecluse.core.codec import canonical, digest_bytes
from ecluse.core.event import Event, broken_at
from ecluse.core.loop_settings import Policy, Triggers
from ecluse.core.settings import Settings
from ecluse.loop import guard
from ecluse.loop.asking import ask
from ecluse.loop.carry_out import Done, Hands
from ecluse.loop.commands import Command, Retrain
from ecluse.loop.promote import promote
from ecluse.loop.runner import WORK, handle, react, unhandled
from ecluse.loop.triggers import Due
from ecluse.testing.memory_state import MemoryState
from ecluse.testing.simulation import Faults
from ecluse.testing.twins import Remembering


def _hold(seeds: range, triggers: int) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds:
        simulation = storm(seed, triggers)
        assert broken(simulation) == [], f"seed {seed}"
        seen.update(str(row.event.evidence.get("why", row.event.kind)) for row in simulation.state.ledger())
    # The storm was one, and all kinds of weather were met.
    expected = {"cool_down", "same_cause", "running", "budget", "gave_up", "backing_off", "lease_lost", "alert.raised"}
    assert expected <= set(seen), seen


def test_the_loop_stays_calm() -> None:
    _hold(range(50), 200)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_the_loop_stays_calm_for_long() -> None:
    _hold(range(500), 1_000)


def test_the_same_seed_tells_the_same_story() -> None:
    one, two = (storm(3, 100) for _ in range(2))
    told = [[(r.event.kind, r.event.time, r.event.reason) for r in each.state.ledger()] for each in (one, two)]
    assert told[0] == told[1]


def _without(rule: str) -> tuple[Any, ...]:
    return tuple(each for each in guard.RULES if each.__name__ != rule)


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        ("_cool_down", Faults()),
        ("_per_day", Faults(failing=0.6)),
        ("_failing", Faults(failing=1.0)),
    ],
)
def test_a_rule_that_is_missing_is_seen(rule: str, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "RULES", _without(rule))
    assert any(broken(storm(seed, 50, faults=faults)) for seed in range(6))


def test_a_state_without_fences_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfenced(self: MemoryState, lease: Any) -> MemoryState:
        return self

    sleepy = Faults(sleeping=0.7, rival=True)
    assert not any(broken(storm(seed, 50, faults=sleepy)) for seed in range(10))
    monkeypatch.setattr(MemoryState, "fenced", unfenced)
    monkeypatch.setattr(guard, "_late", lambda case: False)  # the second net
    assert any("registered" in fault for seed in range(10) for fault in broken(storm(seed, 50, faults=sleepy)))


def test_a_storm_over_months_costs_its_budget_and_no_more() -> None:
    limits = Triggers(per_day=1, compute_minutes=15)
    simulation = storm(1, 300, Settings(policy=Policy(promotion="automatic"), triggers=limits), Faults())
    assert broken(simulation) == []
    assert 1 <= len(starts(list(simulation.state.ledger()))) <= 3
    assert simulation.world.state.rollout(MODEL).champion is not None


assert (SETTINGS.triggers.per_day, SETTINGS.triggers.cool_down.total_seconds()) == (2, 6 * 3_600)


def _real_storm(home: Path, triggers: int) -> None:
    """The same on the real database: one begins, all others are held back, each with its reason."""
    world, begun = world_in(home), []
    promote(world, REAL, MODEL, candidate(world, "a").number, reason="first", actor="ana")
    document = canonical({"models": [{"name": MODEL}]})
    world.state.save_declaration(digest_bytes(document), document)
    react(world, REAL, Remembering({}))
    for number in range(triggers):
        ask(world, MODEL, Due(DETECTORS[1 + number % 4], f"{number % (triggers // 2)}", "it asks"), actor="storm")

    def do(hands: Hands, command: Command, reproduced: bool | None) -> Done:
        begun.append(command)
        if not isinstance(command, Retrain):
            return Done(None)
        row = Event(
            "run.failed", world.clock.now(), hands.actor, MODEL, reason="no rows", evidence={"waits_until": None}
        )
        return Done(hands.step("train", lambda: world.state.append(row).sequence))

    work = functools.partial(handle, world, None, REAL, [], do=do)  # type: ignore[arg-type]
    began = time.monotonic()
    rows = react(world, REAL, Remembering({WORK: work}))
    print(f"{triggers} triggers answered in {time.monotonic() - began:.1f} s")
    assert [type(command).__name__ for command in begun] == ["Retrain", "Wait"]
    held = Counter(row.event.evidence["why"] for row in rows if row.event.kind == "trigger.suppressed")
    assert held.total() == triggers - 1
    assert held["same_cause"] == triggers // 2
    assert unhandled(world) == []
    assert broken_at(world.state.ledger()) is None


def test_a_storm_on_the_real_database(tmp_path: Path) -> None:
    _real_storm(tmp_path, 100)


@pytest.mark.nightly
def test_a_storm_on_the_real_database_for_long(tmp_path: Path) -> None:
    _real_storm(tmp_path, 1_000)
