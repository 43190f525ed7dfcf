"""M4, the loop's part: somebody sets the clock back, on, or stops it. Nothing runs twice, nothing is held back for ever, no lease ends early."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from tests.acceptance.storms import BEGAN, MODEL, SETTINGS, at_once, lost, released_twice, starts, storm, unanswered

from ecluse.core.event import Event, broken_at
from ecluse.loop import guard
from ecluse.testing.simulation import Faults, Simulation

DAY = timedelta(days=1)


def too_soon(simulation: Simulation) -> list[str]:
    """Retrainings closer, in true time, than the rules allow, unless the clock was set on in between: it says that the time has passed."""
    limits, times = simulation.settings.triggers, [training.began for training in simulation.trainings]
    pairs = [("cool-down", a, b, limits.cool_down) for a, b in itertools.pairwise(times)]
    pairs += [("budget", a, b, DAY) for a, b in zip(times, times[limits.per_day :], strict=False)]
    set_on = simulation.set_on
    return [
        f"{rule}: {a} and {b}" for rule, a, b, wait in pairs if b - a < wait and not any(a <= at <= b for at in set_on)
    ]


def broken(simulation: Simulation) -> list[str]:
    rows = list(simulation.state.ledger())
    chain = [] if broken_at(rows) is None else ["the ledger's order is not its sequence"]
    found = at_once(simulation) + unanswered(simulation, rows) + released_twice(rows) + lost(simulation, rows)
    return too_soon(simulation) + found + chain


def hold(seeds: range, triggers: int) -> None:
    jumps = 0
    for seed in seeds:
        simulation = storm(seed, triggers, faults=Faults(clock=0.05, crash=0.02))
        assert broken(simulation) == [], f"seed {seed}"
        jumps += len(simulation.set_on)
    assert jumps > len(seeds), "the clock was set on often enough"


def test_a_clock_that_jumps_runs_nothing_twice() -> None:
    hold(range(15), 150)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_a_clock_that_jumps_runs_nothing_twice_for_long() -> None:
    hold(range(200), 500)


def test_a_jump_back_is_no_new_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours back, again and again: what was begun before counts, and the wait is never longer than one cool-down from now."""
    simulation = Simulation(SETTINGS, BEGAN, tick=timedelta(minutes=30))
    simulation.first_version(MODEL)
    for hour in range(100):
        asked = {"trigger": "outside", "key": str(hour)}
        simulation.tell(Event("trigger.raised", BEGAN + timedelta(hours=hour), "erp", MODEL, None, "it asks", asked))
    for hour in range(0, 100, 10):
        simulation.run(BEGAN + timedelta(hours=hour))
        simulation.time.offset -= timedelta(hours=2)
    assert too_soon(simulation) == []
    assert len(starts(list(simulation.state.ledger()))) >= 4, "it goes on"


def test_a_clock_that_stands_still_holds_everything_back() -> None:
    simulation = Simulation(SETTINGS, BEGAN, tick=timedelta(minutes=30))
    simulation.first_version(MODEL)
    simulation.time.frozen = BEGAN
    for hour in range(48):
        asked = {"trigger": "outside", "key": str(hour)}
        simulation.tell(Event("trigger.raised", BEGAN + timedelta(hours=hour), "erp", MODEL, None, "it asks", asked))
    simulation.run(BEGAN + 3 * DAY)
    assert len(simulation.trainings) == 1


def test_the_planted_defect_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cool-down that takes the clock's word for it: after a jump back it waits for the future, or finds no start at all."""
    monkeypatch.setattr(
        guard, "RULES", tuple(rule for rule in guard.RULES if rule.__name__ not in ("_cool_down", "_per_day"))
    )
    assert any(too_soon(storm(seed, 60, faults=Faults(clock=0.05))) for seed in range(4))
