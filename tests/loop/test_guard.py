"""Guard rails, rule by rule, and a machine of random events, clocks and ends of trainings that none of them may let through."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecluse.core.errors import DeclarationError
from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import TRIGGERS, Policy, Triggers
from ecluse.loop.commands import Alert, Command, Gate, Nothing, Retrain, Suppress, Wait, command_to_plain
from ecluse.loop.decide import Facts, decide
from ecluse.loop.guard import DAY, RULES, Case, backoff, guard
from ecluse.loop.triggers import LASTING, Deferred, History, Start, Story, due, tell

NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = Triggers()


def raised(trigger: str = "outside", **evidence: Any) -> Event:
    return Event("trigger.raised", NOW, "ana", "churn", None, "because", {"trigger": trigger, **evidence})


def drifted(key: str = "w9") -> Event:
    return Event("drift.detected", NOW, "monitor", "churn", 1, "it moved", {"key": key, "findings": [{"check": "psi"}]})


def answer(event: Event, history: History, triggers: Triggers = LIMITS, now: datetime = NOW) -> Command:
    [command] = guard([Retrain("churn", 9, "because")], Case(event, 9, history, triggers, now))
    return command


def why(command: Command) -> str:
    return command.why if isinstance(command, Suppress) else type(command).__name__


def started(hours_ago: float, *, origin: int = 4, seconds: float = 60.0, ended: int = 5) -> Start:
    return Start(origin, NOW - hours_ago * HOUR, seconds, ended)


def test_nothing_holds_the_first_one_back() -> None:
    assert [why(answer(raised(name), History())) for name in TRIGGERS] == ["Retrain"] * len(TRIGGERS)


def test_what_is_switched_off_never_acts_but_its_retry_does() -> None:
    off = Triggers(on=("manual",))
    assert why(answer(drifted(), History(streak=1), off)) == "off"
    assert why(answer(raised("retry"), History(failures=1), off)) == "Retrain"


def test_the_same_cause_acts_once() -> None:
    assert why(answer(raised(key="a"), History(keys={"a": 3}))) == "same_cause"
    assert why(answer(raised(key="a"), History(keys={"a": 9}))) == "Retrain"


def test_one_at_a_time() -> None:
    assert why(answer(raised("manual"), History(starts=(started(9, ended=0),)))) == "running"
    itself = History(starts=(started(0, origin=9, ended=0),))
    assert why(answer(raised("manual"), itself)) == "Retrain", "the chain that goes on after a kill"


def test_what_nobody_says_again_is_asked_again_when_the_retraining_under_way_has_ended() -> None:
    busy = History(starts=(started(1, ended=0),))
    held = {name: answer(raised(name), busy) for name in (*TRIGGERS, "retry")}
    assert {why(command) for command in held.values()} == {"running"}
    again = {name for name, command in held.items() if isinstance(command, Suppress) and command.again}
    assert again == {"schedule", "new_data", "slo", "outside", "retry"}


def test_a_cool_down_holds_for_all_but_people_and_retries() -> None:
    history = History(starts=(started(5),), streak=1)
    held = answer(raised("schedule"), history)
    assert isinstance(held, Suppress)
    assert (held.why, held.until, held.again) == ("cool_down", NOW + HOUR, True)
    monitor = answer(drifted(), history)
    assert isinstance(monitor, Suppress)
    assert not monitor.again, "the next window says it again"
    assert why(answer(raised("manual"), history)) == why(answer(raised("retry"), history)) == "Retrain"
    assert why(answer(raised("schedule"), history, now=NOW + HOUR)) == "Retrain"


@pytest.mark.parametrize("trigger", ["manual", "retry", "outside"])
def test_the_budget_of_a_day_holds_for_everybody(trigger: str) -> None:
    history = History(starts=(started(23), started(20), started(10)))
    held = answer(raised(trigger), history, Triggers(per_day=3))
    assert isinstance(held, Suppress)
    assert (held.why, held.until) == ("budget", NOW + HOUR)
    assert why(answer(raised(trigger), history, Triggers(per_day=3), NOW + HOUR)) == "Retrain"


def test_compute_is_measured_and_the_next_is_expected_to_take_as_long() -> None:
    history = History(starts=(started(20, seconds=300), started(10, seconds=200)))
    assert why(answer(raised(), history, Triggers(compute_minutes=10))) == "compute"
    assert why(answer(raised(), history, Triggers(compute_minutes=12))) == "Retrain"
    assert why(answer(raised(), History(), Triggers(compute_minutes=1))) == "Retrain"


def test_a_training_that_failed_has_cost_its_time() -> None:
    told = [
        Event("loop.decided", NOW, "loop", evidence={"origin": 1, "plan": {"kind": "Retrain", "reason": "x"}}),
        Event("run.failed", NOW, "loop, event 1", reason="no memory", evidence={"seconds": 3_000.0}),
    ]
    rows = [LedgerRow(place, replace(event, model="churn"), "", "") for place, event in enumerate(told, 2)]
    history = tell(Story(), rows).of("churn")
    assert why(answer(raised("manual"), history, Triggers(compute_minutes=60))) == "compute"
    assert why(answer(raised("manual"), history, Triggers(compute_minutes=100))) == "Retrain"


def test_the_largest_budget_of_a_day_is_kept() -> None:
    """So many are remembered as a budget may ask about."""
    with pytest.raises(DeclarationError, match="per_day = 201"):
        Triggers(per_day=201)
    begun = {"plan": {"kind": "Retrain", "reason": "x"}}
    told = [Event("loop.decided", NOW, "loop", "churn", evidence={"origin": n, **begun}) for n in range(1, 301)]
    history = tell(Story(), [LedgerRow(n, event, "", "") for n, event in enumerate(told, 1)]).of("churn")
    ended = replace(history, starts=tuple(replace(start, ended=1) for start in history.starts))
    [held] = guard([Retrain("churn", 999, "x")], Case(raised("manual"), 999, ended, Triggers(per_day=200), NOW))
    assert why(held) == "budget"


def test_one_breached_window_may_be_noise() -> None:
    wanted = Triggers(hysteresis=3)
    assert [why(answer(drifted(), History(streak=n), wanted)) for n in (1, 2, 3)] == [*["hysteresis"] * 2, "Retrain"]
    assert why(answer(raised("slo"), History(), wanted)) == "Retrain"


def test_debounced_causes_become_one() -> None:
    wanted = Triggers(debounce=HOUR)
    first = answer(drifted(), History(streak=1), wanted)
    assert isinstance(first, Suppress)
    assert (first.why, first.until, first.again) == ("debounced", NOW + HOUR, True)
    later = Deferred(10, NOW + HOUR, "drift", "it moved", 1)
    second = answer(raised(), History(deferred=later), wanted, NOW + HOUR / 2)
    assert isinstance(second, Suppress)
    assert second.until == NOW + HOUR, "the first one's wait is not made longer"
    assert why(answer(raised("drift", deferred=10), History(), wanted)) == "Retrain"
    assert why(answer(raised("manual"), History(), wanted)) == "Retrain"


def _fails(history: History, event: Event | None = None) -> Command:
    event = event or Event("run.failed", NOW, "loop, event 4", "churn", None, "no memory")
    [command] = guard([Nothing("no run: no memory")], Case(event, 9, history, Triggers(), NOW))
    return command


def test_a_failed_training_is_tried_again_later_and_later_then_a_person_is_called() -> None:
    waits = [_fails(History(failures=n, failed=9)) for n in (1, 2)]
    spans = [wait.until - NOW for wait in waits if isinstance(wait, Wait) and wait.until is not None]
    assert 7.5 * 60 <= spans[0].total_seconds() <= 12.5 * 60
    assert 15 * 60 <= spans[1].total_seconds() <= 25 * 60
    given_up = _fails(History(failures=3, failed=9))
    assert isinstance(given_up, Alert)
    assert "no memory" in given_up.reason
    assert isinstance(_fails(History()), Nothing), "a person's own training is theirs to try again"


def test_a_training_that_ends_after_another_process_followed_it_leads_to_nothing() -> None:
    history = History(starts=(started(1, origin=4, ended=7),))
    late = Event("run.finished", NOW, "loop, event 4", "churn", evidence={"run": "r"})
    command = Gate("churn", "r", "run r is to be judged")
    assert isinstance(guard([command], Case(late, 9, history, LIMITS, NOW))[0], Nothing)
    assert guard([command], Case(late, 7, history, LIMITS, NOW)) == (command,)


def test_meanwhile_others_wait_and_after_the_third_only_a_person_begins_again() -> None:
    waits = History(failures=1, retry_at=NOW + HOUR)
    assert why(answer(raised(), waits)) == "backing_off"
    assert why(answer(raised(), waits, now=NOW + HOUR)) == "Retrain"
    early = answer(raised("retry"), waits)
    assert isinstance(early, Suppress)
    assert (early.why, early.until, early.again) == ("backing_off", NOW + HOUR, True), "one of an earlier failure"
    assert why(answer(raised("manual"), waits)) == "Retrain"
    assert why(answer(raised(), History(failures=3))) == "gave_up"
    assert why(answer(raised("retry"), History(failures=3))) == "gave_up"
    assert why(answer(raised("manual"), History(failures=3))) == "Retrain"


def test_the_wait_has_a_longest_and_its_jitter_is_the_same_again() -> None:
    spans = [backoff(Triggers(), 30, f"churn/{n}") for n in range(200)]
    assert min(spans) >= 4.5 * HOUR
    assert max(spans) <= 7.5 * HOUR
    assert len(set(spans)) > 190
    assert spans == [backoff(Triggers(), 30, f"churn/{n}") for n in range(200)]


@pytest.mark.parametrize("jump", [timedelta(hours=-2), timedelta(days=-30)])
def test_a_clock_set_back_neither_frees_nor_blocks_for_ever(jump: timedelta) -> None:
    """M4: what seems to lie in the future happened just now."""
    history, now = History(starts=(started(0.5),)), NOW + jump
    held = answer(raised("schedule"), history, now=now)
    assert isinstance(held, Suppress)
    assert held.until is not None
    assert held.until <= now + Triggers().cool_down


# ---------------------------------------------------------------------------------------------------------- the machine


class CalmLoop(RuleBasedStateMachine):
    """Random triggers, ends of trainings, releases and clocks; decisions are made and written as the runner does. Time here is the true one."""

    rules_held = RULES
    limits = Triggers(per_day=2)

    def __init__(self) -> None:
        super().__init__()
        self.story, self.true, self.offset = Story(), NOW, timedelta(0)
        self.rows: list[LedgerRow] = []
        self.champion = 1
        self.open: dict[int, int | None] = {}
        """What nobody says again and no retraining was begun after: its row, and the version it is about."""
        self.begun: list[tuple[datetime, str]] = []
        self.running: int | None = None
        self.jumps = 0

    @property
    def now(self) -> datetime:
        return self.true + self.offset

    def write(self, event: Event) -> LedgerRow:
        row = LedgerRow(len(self.rows) + 1, replace(event, time=self.now), "", str(len(self.rows) + 1))
        self.rows.append(row)
        self.story = tell(self.story, [row])
        return row

    def decide(self, row: LedgerRow) -> None:
        case = Case(row.event, row.sequence, self.story.of("churn"), self.limits, self.now)
        commands = guard(decide(row.event, Facts(row.sequence, champion=self.champion), Policy()), case)
        assert len(commands) == 1, "every trigger is answered"
        for command in commands:
            assert command.reason
            kind = "trigger.suppressed" if isinstance(command, Suppress) else "loop.decided"
            evidence = {"cause": row.sequence, "origin": row.sequence, "plan": command_to_plain(command)}
            self.write(Event(kind, self.now, f"loop, event {row.sequence}", "churn", None, command.reason, evidence))
            if isinstance(command, Retrain):
                assert self.running is None, "two at once"
                self.running = row.sequence
                self.open.clear()
                self.begun.append((self.true, str(row.event.evidence.get("trigger", "drift"))))

    @rule(trigger=st.sampled_from([t for t in TRIGGERS if t != "drift"]), key=st.integers(0, 20))
    def asks(self, trigger: str, key: int) -> None:
        version, cause = self.champion if trigger == "slo" else None, f"{trigger}/{key}"
        history = self.story.of("churn")
        new = cause not in history.keys and history.failures < self.limits.attempts
        event = raised(trigger, **({} if trigger == "manual" else {"key": cause}))
        row = self.write(replace(event, version=version))
        if new and trigger in LASTING:
            self.open[row.sequence] = version
        self.decide(row)

    @rule(window=st.integers(0, 50))
    def drifts(self, window: int) -> None:
        self.decide(self.write(replace(drifted(f"w{window}"), version=self.champion)))

    @rule()
    def looks(self) -> None:
        """As each turn of the loop begins."""
        for each in due(self.story.of("churn"), self.limits, self.now, tables={}):
            event = raised(each.trigger, key=each.key, deferred=each.deferred)
            self.decide(self.write(replace(event, version=each.version)))

    @rule()
    def another_is_released(self) -> None:
        self.champion += 1
        self.write(Event("version.promoted", NOW, "ana", "churn", self.champion))

    @rule(minutes=st.integers(1, 600))
    def time_passes(self, minutes: int) -> None:
        self.true += timedelta(minutes=minutes)

    @precondition(lambda self: self.running is not None)
    @rule(well=st.booleans(), minutes=st.integers(1, 60))
    def training_ends(self, well: bool, minutes: int) -> None:
        self.true += timedelta(minutes=minutes)
        kind, actor = "run.finished" if well else "run.failed", f"loop, event {self.running}"
        self.running = None
        row = self.write(Event(kind, self.now, actor, "churn", evidence={"run": str(len(self.rows)), "seconds": 60}))
        if not well:
            self.decide(row)

    @rule(jump=st.sampled_from([timedelta(hours=-2), timedelta(hours=1), timedelta(0)]))
    def clock_is_set(self, jump: timedelta) -> None:
        self.jumps += jump > self.offset
        self.offset = jump

    @invariant()
    def is_calm(self) -> None:
        most = self.limits.per_day + self.jumps  # a clock set forward ends one wait early; nothing else does
        for place, (time, _) in enumerate(self.begun):
            window = [t for t, _ in self.begun[place:] if t - time < DAY - timedelta(hours=3)]
            assert len(window) <= most, "over budget"
        failures = self.story.of("churn").failures
        assert failures <= self.limits.attempts or any(trigger == "manual" for _, trigger in self.begun)

    @invariant()
    def loses_nothing(self) -> None:
        """What nobody says again is asked again, unless it is about a version that is gone, or a person was called."""
        history = self.story.of("churn")
        if history.failures >= self.limits.attempts:
            self.open.clear()
        if any(version in (None, self.champion) for version in self.open.values()):
            later = history.deferred
            assert later is not None, "lost"
            assert later.trigger in LASTING, "a monitor's, held back, is not asked again"
            assert later.version in (None, self.champion), "asked for a version that is gone"


class PatientLoop(CalmLoop):
    """The same with causes that wait for each other."""

    limits = Triggers(per_day=2, debounce=timedelta(minutes=30), cool_down=timedelta(hours=2))


TestCalmLoop, TestPatientLoop = CalmLoop.TestCase, PatientLoop.TestCase
TestCalmLoop.settings = TestPatientLoop.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
