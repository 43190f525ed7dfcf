"""A budget that burns asks for one retraining, by the workers' own counters; the guard rails say what comes of it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.loop.test_release_guard import Place

from ecluse.core.errors import DeclarationError, Unavailable
from ecluse.core.loop_settings import Rollback, Slo, Triggers
from ecluse.core.settings import Settings
from ecluse.loop.objectives import Burns, watch_objectives
from ecluse.loop.pause import pause
from ecluse.serving.metrics import Metrics
from ecluse.testing.simulation import Simulation


class Watched(Place):
    """A released version, whose counters are looked at."""

    def __init__(self, home: Path, **triggers: Any) -> None:
        slo = Slo(latency_ms=0.5)
        super().__init__(
            home, Settings(project="water", triggers=Triggers(**triggers), slo=slo, rollback=Rollback(on=()))
        )
        self.burns, self.seconds = Burns(), 0.0
        self.release("one")

    def watch(self, seconds: float = 1.0) -> list[str]:
        self.seconds += seconds
        read = self.metrics.render
        rows = watch_objectives(self.world, self.settings, self.burns, lambda: read().decode(), lambda: self.seconds)
        return [f"{row.event.evidence['key']}: {row.event.reason}" for row in rows]


@pytest.fixture
def place(tmp_path: Path) -> Watched:
    made = Watched(tmp_path)
    made.answer(1, 5_000, 500)  # before the loop came up: not its to judge
    assert made.watch() == []
    return made


def test_a_champion_that_fails_is_asked_about_once(place: Watched) -> None:
    today = place.clock.now().date()
    place.answer(1, 900)
    assert place.watch() == []
    place.answer(1, 60, 40)
    said = f"slo/availability/1/{today}: availability: its error budget burns 40.0 times too fast: 40 of 1,000 answers"
    assert [each[: len(said)] for each in place.watch()] == [said]
    place.answer(1, 0, 100)
    assert place.watch() == [], "the same burning is one cause"
    [raised] = place.told("trigger.raised")
    assert (raised.version, raised.evidence["trigger"]) == (1, "slo")
    place.clock.time += timedelta(days=1)
    assert len(place.watch()) == 1, "and is said again a day later"


def test_a_new_loop_does_not_say_again_what_was_said(place: Watched) -> None:
    place.answer(1, 0, 100)
    assert len(place.watch()) == 1
    place.burns = Burns()
    place.watch()
    place.answer(1, 0, 100)
    assert place.watch() == []


def test_who_counts_what_was_before_cries_wolf(place: Watched) -> None:
    """The planted defect: a loop that comes up judges the workers' whole past."""
    place.burns = Burns(last={})
    assert len(place.watch()) == 1


def test_counting_goes_on_over_a_restart_of_the_workers(place: Watched) -> None:
    place.answer(1, 0, 30)
    assert place.watch() == [], "too few"
    place.metrics = Metrics()
    place.answer(1, 0, 30)
    assert len(place.watch()) == 1


def test_another_version_begins_anew_and_what_all_would_fail_at_is_excused(place: Watched) -> None:
    place.answer(1, 0, 40)
    place.watch()
    place.release("two")
    place.answer(2, 0, 40)
    for _ in range(500):
        place.metrics.count("/predict", "churn", "2", 503, "overloaded", 0.001)
    assert place.watch() == []


def test_slow_answers_ask_where_it_was_declared(place: Watched, tmp_path: Path) -> None:
    place.answer(1, 500)  # 1 ms each: the objective is half of it
    assert place.watch() == []
    declared = Watched(tmp_path / "other", objectives=("latency",))
    declared.watch()
    declared.answer(1, 500)
    assert "latency: its error budget burns 100.0 times too fast" in declared.watch()[0]


def test_nothing_is_asked_when_paused_switched_off_or_nobody_answers(tmp_path: Path) -> None:
    place = Watched(tmp_path, on=("manual",))
    place.watch()
    place.answer(1, 0, 500)
    assert place.watch() == []

    def nobody() -> str:
        raise Unavailable("no server answers")

    assert watch_objectives(place.world, place.settings, place.burns, nobody) == []
    pause(place.world, reason="audit", actor="ana")
    assert place.watch() == []


def test_no_retraining_empties_a_queue() -> None:
    with pytest.raises(DeclarationError, match="saturation"):
        Triggers(objectives=("saturation",))


def test_a_month_of_burning_leads_to_one_retraining_a_cool_down() -> None:
    """Simulated: the real watch, runner and guard rails; the champions fail from the fifth day to the tenth, whichever they are."""
    began = datetime(2024, 3, 1, tzinfo=UTC)
    triggers = Triggers(debounce=timedelta(hours=2), cool_down=timedelta(hours=36), per_day=1)
    settings = Settings(project="water", triggers=triggers, rollback=Rollback(on=()))
    simulation, metrics, burns = Simulation(settings, began), Metrics(), Burns()
    simulation.first_version("churn")
    world = simulation.world
    for hour in range(30 * 24):
        champion = world.state.rollout("churn").champion
        bad = 400 if 5 * 24 <= hour < 10 * 24 else 1  # of 3,600: the budget of 0.1 % is not burnt by one
        for status, code, count in ((200, "ok", 3_600 - bad), (500, "not_finite", bad)):
            for _ in range(count):
                metrics.count("/predict", "churn", str(champion), status, code, 0.001)
        read = metrics.render().decode()
        watch_objectives(world, settings, burns, lambda read=read: read, simulation.time.monotonic)  # type: ignore[misc]
        simulation.run(simulation.time.true() + timedelta(hours=1))
    rows = [row.event for row in world.state.ledger()]
    begun = [event.time for event in rows if event.evidence.get("command") == "Retrain"]
    held = {event.evidence["why"] for event in rows if event.kind == "trigger.suppressed"}
    days = [(time - began) / timedelta(days=1) for time in begun]
    assert 2 <= len(begun) <= 5
    assert all(5 <= day <= 11.6 for day in days), days
    assert all(later - sooner >= timedelta(hours=36) for sooner, later in itertools.pairwise(begun))
    assert "debounced" in held
    raised = [event for event in rows if event.kind == "trigger.raised" and "deferred" not in event.evidence]
    assert len({event.evidence["key"] for event in raised}) == len(raised) <= 12, "each cause is asked once"
