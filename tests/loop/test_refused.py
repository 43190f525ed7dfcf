"""Candidates that were refused: monitors that say the same again wait longer each time; what is new or much worse, people and schedules do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import TRIGGERS, Policy, Triggers
from ecluse.loop.commands import Command, Retrain, Suppress, command_to_plain
from ecluse.loop.decide import Facts, decide
from ecluse.loop.guard import RULES, WORSE, Case, guard
from ecluse.loop.triggers import Story, tell

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = Triggers(cool_down=6 * HOUR, refused_most=48 * HOUR, per_day=100)
BY_OTHERS = tuple(each for each in TRIGGERS if each not in ("drift", "performance"))


class Told:
    """One model's ledger, written as the runner writes it."""

    def __init__(self, limits: Triggers = LIMITS) -> None:
        self.limits, self.now, self.rows, self.story = limits, BEGAN, list[LedgerRow](), Story()

    def write(self, kind: str, actor: str = "ana", version: int | None = 1, **evidence: Any) -> int:
        row = LedgerRow(
            len(self.rows) + 1, Event(kind, self.now, actor, "churn", version, "because", evidence), "", "h"
        )
        self.rows.append(row)
        self.story = tell(self.story, [row])
        return row.sequence

    def answer(self, number: int) -> Command:
        """What a trigger leads to now, written down."""
        row = self.rows[number - 1]
        case = Case(row.event, number, self.story.of("churn"), self.limits, self.now)
        [command] = guard(decide(row.event, Facts(number, champion=1), Policy()), case)
        self._decided(number, number, command_to_plain(command), type(command).__name__)
        return command

    def _decided(self, cause: int, origin: int, plan: Mapping[str, Any], command: str) -> None:
        kind = "trigger.suppressed" if command == "Suppress" else "loop.decided"
        self.write(kind, f"loop, event {origin}", cause=cause, origin=origin, plan=plan, command=command)

    def window(self, auc: float | None, *, psi: float | None = None) -> Command:
        """A judged window with an AUC below 0.875 and a PSI above 0.25, as far as given, and what follows from it."""
        findings = [{"check": "performance", "subject": "roc_auc", "measured": auc, "limit": 0.875}]
        findings += [] if psi is None else [{"check": "prediction_psi", "subject": "", "measured": psi, "limit": 0.25}]
        known: dict[str, Any] = {"key": f"window {len(self.rows)}", "findings": findings}
        self.write("monitor.judged", "monitor", **known)
        return self.answer(self.write("drift.detected", "monitor", **known))

    def asked(self, trigger: str) -> Command:
        return self.answer(self.write("trigger.raised", trigger=trigger))

    def ends(self, how: str = "refused") -> None:
        """The training under way ends: its candidate is refused, gains nothing, is a twin, is released; or it fails."""
        running = self.story.of("churn").running
        assert running is not None
        origin, loop = running.origin, f"loop, event {running.origin}"
        cause = self.write("run.failed" if how == "failed" else "run.finished", loop, None, run=f"r{origin}")
        if how == "failed":
            return
        if how != "twin":
            cause = self.write("version.gated", loop, 2, passed=how != "refused")
        if how == "released":
            self.write("version.promoted", loop, 2)
        else:
            self._decided(cause, origin, {"kind": "Nothing", "reason": how}, "Nothing")

    def waited(self, auc: float = 0.8125) -> timedelta:
        """How long the same breach is held back from the last retraining on, looked at every hour."""
        began = self.now
        while isinstance(said := self.window(auc), Suppress):
            assert said.why in ("cool_down", "refused")
            assert not said.again, "the next window says it again"
            assert said.until is not None
            assert said.until > self.now
            self.now += HOUR
        return self.now - began


def _why(command: Command) -> str:
    return command.why if isinstance(command, Suppress) else type(command).__name__


@pytest.mark.parametrize("how", ["refused", "no gain", "twin"])
def test_the_cool_down_doubles_with_each_refused_candidate_up_to_the_longest(how: str) -> None:
    told, hours = Told(), []
    assert _why(told.window(0.8125)) == "Retrain"
    for _ in range(5):
        told.ends(how)
        hours.append(told.waited() / HOUR)
    assert hours == [12, 24, 48, 48, 48]


def test_a_release_begins_anew() -> None:
    told = Told()
    for how in ("refused", "refused", "released"):
        told.window(0.8125)
        told.ends(how)
        told.now += 48 * HOUR
    assert _why(told.window(0.8125)) == "Retrain"
    told.ends()
    assert told.waited() == 12 * HOUR


def test_a_training_that_failed_says_nothing_about_its_candidate() -> None:
    told = Told()
    told.window(0.8125)
    told.ends("failed")
    assert told.story.of("churn").refused == ()


@pytest.mark.parametrize("how", ["refused", "twin"])
def test_what_another_process_brought_to_its_end_is_no_refusal(how: str) -> None:
    told = Told()
    told.window(0.8125)
    origin = told.story.of("churn").starts[-1].origin
    told.ends("released")
    late = told.write("run.finished", f"loop, event {origin}", None, run="late")
    told.write("loop.decided", cause=late, origin=origin, plan={"kind": "Nothing", "reason": how}, command="Nothing")
    assert told.story.of("churn").refused == ()


def test_what_is_new_or_four_times_as_far_past_its_limit_is_another_matter() -> None:
    told = Told()
    told.window(0.8125)
    told.ends()
    told.now += 6 * HOUR
    assert _why(told.window(0.625)) == "refused", "four times as far, no further"
    assert _why(told.window(0.624)) == "Retrain"
    told.ends()
    told.now += 6 * HOUR
    assert _why(told.window(0.624)) == "refused", "now it is the old matter"
    assert _why(told.window(0.8125, psi=0.3)) == "Retrain"


def test_a_calm_window_between_changes_nothing() -> None:
    told = Told()
    told.window(0.8125)
    told.ends()
    told.now += 7 * HOUR
    told.write("monitor.judged", "monitor", key="calm")
    assert _why(told.window(0.8125)) == "refused"


def test_zero_asks_for_no_more_than_the_cool_down() -> None:
    told = Told(Triggers(cool_down=6 * HOUR, refused_most=timedelta(0)))
    told.window(0.8125)
    told.ends()
    assert told.waited() == 6 * HOUR


hows = st.sampled_from(["refused", "no gain", "twin", "released"])
steps = st.lists(st.tuples(st.integers(1, 60), st.floats(0.5, 0.87), hows), min_size=1, max_size=40)


def _play(given: Sequence[tuple[int, float, str]]) -> list[tuple[str, float, Told]]:
    """What each window led to, the hours since the last retraining, and the ledger before it."""
    told, last, found = Told(), BEGAN - timedelta(days=99), []
    for hours, auc, how in given:
        told.now += hours * HOUR
        before = Told()
        before.story, before.now, before.rows = told.story, told.now, [*told.rows]
        found.append((_why(told.window(auc)), (told.now - last) / HOUR, before))
        if found[-1][0] == "Retrain":
            last = told.now
            told.ends(how)
    return found


@given(steps)
def test_it_holds_no_longer_than_it_says_and_only_what_is_no_worse(given: Sequence[tuple[int, float, str]]) -> None:
    for (_, auc, _), (why, hours, before) in zip(given, _play(given), strict=True):
        refused = before.story.of("churn").refused
        wait = min(6 * 2 ** len(refused), 48) if refused else 6
        worst = max((each.past["performance roc_auc"] for each in refused), default=0.0)
        worse = 0.875 - auc > WORSE * worst
        expected = "cool_down" if hours < 6 else "refused" if hours < wait and not worse else "Retrain"
        assert why == expected


@given(steps, st.sampled_from([*BY_OTHERS, "retry"]))
def test_people_schedules_data_and_others_are_never_held_by_it(
    given: Sequence[tuple[int, float, str]], trigger: str
) -> None:
    for _, _, before in _play(given):
        assert _why(before.asked(trigger)) != "refused"


def test_without_the_rule_every_window_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecluse.loop.guard.RULES", tuple(each for each in RULES if each.__name__ != "_refused"))
    told = Told()
    for _ in range(5):
        assert isinstance(told.window(0.8125), Retrain)
        told.ends()
        told.now += 6 * HOUR
