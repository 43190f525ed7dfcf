"""M3: a thousand triggers in ten minutes from five detectors, trainers that fail, kills, sleepers: the loop stays calm and says why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.acceptance.storms import MODEL, SETTINGS, broken, starts, storm

from ecluse.core.loop_settings import Policy, Triggers
from ecluse.core.settings import Settings
from ecluse.loop import guard
from ecluse.testing.memory_state import MemoryState
from ecluse.testing.simulation import Faults


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
