"""What the loop settles by itself: a champion worse than declared is told, which asks for a retraining and takes a young release back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.loop.test_outcomes import CHURN, MONTHS, PROJECT, SETTINGS, Town, town, truths_of  # noqa: F401 - a fixture
from tests.loop.worlds import candidate
from tests.monitoring.records import prediction

from ecluse.core.errors import Corrupt
from ecluse.core.event import Event
from ecluse.core.loop_settings import Monitoring, Rollback, Triggers
from ecluse.core.ports import World
from ecluse.core.project import gather
from ecluse.core.verdict import Outcome
from ecluse.loop.commands import Retrain, Suppress
from ecluse.loop.promote import promote
from ecluse.loop.release_guard import guard_releases
from ecluse.loop.releases import Releases, tell_releases
from ecluse.loop.runner import resolve, unhandled
from ecluse.loop.settle import next_due, settle, settle_all

LATER = MONTHS[2] + timedelta(days=40)


def told(world: World) -> list[Event]:
    return [row.event for row in world.state.ledger() if row.event.kind == "drift.detected"]


@pytest.fixture
def worse(town: Town, tmp_path: Path) -> Town:  # noqa: F811
    """Truths that have nothing to do with the scores, of 300 answers."""
    town.asked(2, 300)
    town.label(tmp_path / "labels", 2, np.random.default_rng(1).random(300) < 0.4, LATER)
    return town


def test_truths_as_expected_tell_nothing(town: Town, tmp_path: Path) -> None:  # noqa: F811
    scores = town.asked(2, 300)
    town.label(tmp_path / "labels", 2, truths_of(scores, 1), LATER)
    [report] = settle_all(town.world, PROJECT, SETTINGS)
    assert (report.verdict.passed, told(town.world), len(town.told())) == (True, [], 1)


def test_a_champion_worse_than_declared_is_told_once_for_as_many_truths(worse: Town, tmp_path: Path) -> None:
    for _ in range(2):
        assert settle(worse.world, PROJECT, SETTINGS, "churn").verdict.breached
    [event] = told(worse.world)
    assert (event.version, event.evidence["truths"], event.evidence["by"]) == (1, 300, "outcomes")
    assert "by 300 truths" in event.reason
    worse.asked(3, 200)
    worse.label(tmp_path / "more", 3, np.random.default_rng(2).random(200) < 0.4, LATER + timedelta(days=40))
    settle(worse.world, PROJECT, SETTINGS, "churn")
    assert [each.evidence["truths"] for each in told(worse.world)] == [300, 500]


def test_a_limit_missed_by_luck_alone_sets_nothing_off(worse: Town) -> None:
    auc = (
        settle(worse.world, PROJECT, replace(SETTINGS, monitoring=Monitoring()), "churn").versions[1].metrics["roc_auc"]
    )
    near = replace(SETTINGS, monitoring=replace(SETTINGS.monitoring, performance={"roc_auc": auc + 0.01}))
    [finding] = settle(worse.world, PROJECT, near, "churn").verdict.findings
    assert (finding.outcome, told(worse.world)) == (Outcome.INCONCLUSIVE, [])
    young = replace(near, rollback=Rollback(on=("performance",), watch=timedelta(days=90)))
    done: list[Any] = guard_releases(worse.world, young, {})
    assert done == []


def test_it_asks_for_a_retraining_whatever_hysteresis_windows_need(worse: Town) -> None:
    settle(worse.world, PROJECT, SETTINGS, "churn")
    [row] = [row for row in unhandled(worse.world) if row.event.kind == "drift.detected"]
    strict = replace(SETTINGS, triggers=Triggers(hysteresis=3))
    (command,), number = resolve(worse.world, strict, row)
    assert (type(command), number) == (Retrain, 1)
    (command,), _ = resolve(worse.world, replace(SETTINGS, triggers=Triggers(on=("drift",))), row)
    assert isinstance(command, Suppress)
    assert (command.why, command.trigger) == ("off", "performance")


def test_a_young_release_is_taken_back_where_that_is_declared(worse: Town) -> None:
    settle(worse.world, PROJECT, SETTINGS, "churn")
    young = replace(SETTINGS, rollback=Rollback(on=("performance",), watch=timedelta(days=90)))
    [row] = guard_releases(worse.world, young, {})
    assert row.event.kind == "alert.raised", "there is none to go back to: a person is called"
    assert "roc_auc" in row.event.reason
    declared: list[Any] = guard_releases(worse.world, SETTINGS, {})
    assert declared == [], "it is no ground unless named"


def test_what_is_as_declared_again_is_told_once_and_held_against_it_no_more(worse: Town) -> None:
    def against() -> set[str]:
        return set(tell_releases(Releases(), worse.world.state.ledger(model="churn"), {}).against)

    lenient = replace(SETTINGS, monitoring=replace(SETTINGS.monitoring, performance={"roc_auc": 0.1}))
    settle(worse.world, PROJECT, SETTINGS, "churn")
    assert against() == {"performance"}
    for _ in range(2):
        settle(worse.world, PROJECT, lenient, "churn")
        assert against() == set()
    [well] = [each for each in worse.told() if each.version is not None]
    assert (well.version, well.reason) == (1, "version 1 performs as declared again, by 300 truths")


def test_a_release_nobody_asked_is_not_judged_by_the_one_before(town: Town, tmp_path: Path) -> None:  # noqa: F811
    town.asked(2, 300, version=7)
    town.label(tmp_path / "labels", 2, np.random.default_rng(1).random(300) < 0.4, LATER)
    settle(town.world, PROJECT, SETTINGS, "churn")
    assert told(town.world) == []


def test_a_long_journal_is_settled_for_a_quarter_of_the_time_at_most() -> None:
    assert next_due(100.0, 102.0, 600.0) == 700.0
    assert next_due(100.0, 400.0, 600.0) == 400 + 3 * 300


def test_a_model_whose_bundle_is_damaged_keeps_no_other_from_being_settled(worse: Town) -> None:
    aged = candidate(worse.world, "aged", "aged")
    promote(worse.world, SETTINGS, "aged", 1, reason="passed", actor="ana")
    worse.write([prediction(1, model="aged")])
    (worse.home / "bundles" / aged.bundle / "model.onnx").write_bytes(b"other bytes")
    both = gather([replace(CHURN, name="aged"), CHURN])
    with pytest.raises(Corrupt, match=aged.bundle[:12]):
        settle_all(worse.world, both, SETTINGS)
    assert [event.model for event in told(worse.world)] == ["churn"]
