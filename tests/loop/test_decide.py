"""Decisions, case by case, and what holds for all of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.event import KINDS, Event
from ecluse.core.loop_settings import Policy
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.core.version import GateReport, ModelVersion, Stage
from ecluse.loop.commands import (
    Command,
    Gate,
    Nothing,
    Promote,
    Retrain,
    Wait,
    command_from_plain,
    command_to_plain,
)
from ecluse.loop.decide import KINDS as DECIDED
from ecluse.loop.decide import Facts, decide

NOW = datetime(2024, 2, 29, tzinfo=UTC)
VERSION = ModelVersion("churn", 2, "run2", "bundle2", Stage.STAGING, NOW)
AUTOMATIC = Policy(register="automatic", promotion="automatic", retrain="automatic")
MANUAL = Policy(register="manual", promotion="manual", retrain="manual")


def event(kind: str, version: int | None = None, **evidence: Any) -> Event:
    return Event(kind, NOW, "ana", "churn", version, "hours moved", evidence)


def report(passed: bool = True, champion: int | None = 1) -> GateReport:
    finding = Finding("floor", Outcome.PASSED if passed else Outcome.FAILED, "why", 0.6, 0.7, "roc_auc")
    return GateReport("churn", 2, "bundle2", champion, Verdict("gate", (finding,)), NOW, NOW + timedelta(days=7))


def the(commands: tuple[Command, ...]) -> Command:
    [command] = commands
    return command


def test_drift_of_the_champion_retrains_by_policy() -> None:
    facts = Facts(sequence=9, champion=1)
    assert isinstance(the(decide(event("drift.detected", 1), facts, AUTOMATIC)), Retrain)
    waits = the(decide(event("drift.detected", 1), facts, MANUAL))
    assert isinstance(waits, Wait)
    assert "ecluse train" in waits.reason


@pytest.mark.parametrize("champion", [2, None])
def test_drift_of_a_version_that_no_longer_serves_does_nothing(champion: int | None) -> None:
    assert isinstance(the(decide(event("drift.detected", 1), Facts(9, champion), AUTOMATIC)), Nothing)


def test_a_run_is_registered_and_judged_by_policy() -> None:
    facts = Facts(sequence=9, champion=1, run="run2")
    assert the(decide(event("run.finished"), facts, AUTOMATIC)) == Gate("churn", "run2", "run run2 is to be judged")
    assert isinstance(the(decide(event("run.finished"), facts, MANUAL)), Wait)


def test_the_same_bundle_again_is_no_new_version() -> None:
    command = the(decide(event("run.finished"), Facts(9, 1, run="run3", twin=2), AUTOMATIC))
    assert command == Nothing("run run3 made the same bundle as version 2")


def test_a_run_that_failed_waits_for_labels_where_that_helps() -> None:
    until = datetime(2024, 3, 5, tzinfo=UTC)
    assert the(decide(event("run.failed", waits_until="2024-03-05T00:00:00Z"), Facts(9), AUTOMATIC)) == Wait(
        "hours moved", until
    )
    assert isinstance(the(decide(event("run.failed"), Facts(9), AUTOMATIC)), Nothing)


def test_a_version_is_judged_once() -> None:
    fresh = replace(VERSION, stage=Stage.NONE)
    assert isinstance(the(decide(event("version.registered", 2), Facts(9, 1, version=fresh), AUTOMATIC)), Gate)
    judged = Facts(9, 1, version=fresh, report=report())
    assert decide(event("version.registered", 2), judged, AUTOMATIC) == ()


def test_gates_passed_promote_by_policy() -> None:
    facts = Facts(9, 1, version=VERSION, report=report())
    command = the(decide(event("version.gated", 2), facts, AUTOMATIC))
    assert command == Promote("churn", 2, 9, "gates passed: 1 findings, against version 1")
    waits = the(decide(event("version.gated", 2), facts, Policy()))
    assert isinstance(waits, Wait)
    assert waits.reason.startswith("approval")


def test_refused_gates_name_their_checks() -> None:
    facts = Facts(9, 1, version=replace(VERSION, stage=Stage.NONE), report=report(passed=False))
    assert the(decide(event("version.gated", 2), facts, AUTOMATIC)) == Nothing("version 2 refused: floor roc_auc")


def test_a_report_against_another_champion_promotes_nobody() -> None:
    facts = Facts(9, 3, version=VERSION, report=report(champion=1))
    assert isinstance(the(decide(event("version.gated", 2), facts, AUTOMATIC)), Wait)


@pytest.mark.parametrize("stage", [Stage.PRODUCTION, Stage.ARCHIVED, Stage.REJECTED])
def test_what_somebody_moved_on_is_left_alone(stage: Stage) -> None:
    facts = Facts(9, 1, run="run2", version=replace(VERSION, stage=stage), report=report())
    for kind in ("run.finished", "version.registered", "version.gated"):
        assert decide(event(kind, 2), facts, AUTOMATIC) == ()


events = st.builds(event, st.sampled_from(sorted(KINDS)), st.one_of(st.none(), st.integers(1, 4)))
policies = st.builds(Policy, *[st.sampled_from(["manual", "automatic"])] * 3)
facts = st.builds(
    Facts,
    sequence=st.integers(1, 99),
    champion=st.one_of(st.none(), st.integers(1, 4)),
    run=st.sampled_from(["", "run2"]),
    twin=st.one_of(st.none(), st.integers(1, 4)),
    version=st.one_of(st.none(), st.builds(lambda stage: replace(VERSION, stage=stage), st.sampled_from(list(Stage)))),
    report=st.one_of(st.none(), st.builds(report, st.booleans(), st.one_of(st.none(), st.integers(1, 4)))),
)


@given(events, facts, policies)
def test_every_decision_obeys_the_policy_and_survives_the_ledger(event: Event, facts: Facts, policy: Policy) -> None:
    commands = decide(event, facts, policy)
    assert not commands or event.kind in DECIDED
    for command in commands:
        assert command_from_plain(command_to_plain(command)) == command
        assert command.reason
        assert not (isinstance(command, Retrain) and policy.retrain == "manual")
        if isinstance(command, Promote):
            assert policy.promotion == "automatic"
            assert facts.report is not None
            assert facts.report.verdict.passed
            assert facts.report.champion == facts.champion


def asked(trigger: str, version: int | None = None) -> Event:
    return event("trigger.raised", version, trigger=trigger)


def test_a_trigger_retrains_by_policy_and_a_person_always() -> None:
    facts = Facts(sequence=9, champion=1)
    assert the(decide(asked("schedule"), facts, AUTOMATIC)) == Retrain("churn", 9, "schedule: hours moved")
    assert isinstance(the(decide(asked("schedule"), facts, MANUAL)), Wait)
    assert isinstance(the(decide(asked("manual"), facts, MANUAL)), Retrain)
    assert isinstance(the(decide(asked("manual"), Facts(sequence=9), AUTOMATIC)), Retrain), "also the first training"


def test_a_deferred_trigger_about_a_version_that_left_does_nothing() -> None:
    assert isinstance(the(decide(asked("drift", 1), Facts(9, 2), AUTOMATIC)), Nothing)
    assert isinstance(the(decide(asked("drift", 1), Facts(9, 1), AUTOMATIC)), Retrain)
