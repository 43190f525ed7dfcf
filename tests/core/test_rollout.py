"""The legal moves of a rollout: one champion, back and further back, nothing ungated."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import NotAllowed
from ecluse.core.rollout import Rollout, promote, roll_back, stages
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.core.version import GateReport, ModelVersion, Stage

NOW = datetime(2024, 1, 31, tzinfo=UTC)


def version(number: int, stage: Stage = Stage.STAGING) -> ModelVersion:
    return ModelVersion("churn", number, f"run{number}", f"bundle{number}", stage, NOW)


def report(number: int, champion: int | None = None, *, passed: bool = True, **changes: object) -> GateReport:
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    verdict = Verdict("gates", (Finding("floor", outcome, "roc_auc"),))
    values = {"bundle": f"bundle{number}", "expires": NOW + timedelta(days=1), "dry": False} | changes
    return GateReport("churn", number, values["bundle"], champion, verdict, NOW, values["expires"], values["dry"])  # type: ignore[arg-type]


def test_the_first_promotion() -> None:
    after = promote(Rollout("churn"), version(1), report(1), NOW)
    assert (after.champion, after.previous, after.revision) == (1, (), 1)
    assert stages(Rollout("churn"), after) == {1: Stage.PRODUCTION}


@pytest.mark.parametrize(
    ("given_report", "says"),
    [
        (None, "no gate report"),
        (report(2, dry=True), "no gate report"),
        (report(2, passed=False), "did not pass its gates: floor"),
        (report(2, bundle="other"), "of another version"),
        (report(3), "of another version"),
        (report(2, champion=7), "compared with version 7"),
        (report(2, expires=NOW - timedelta(seconds=1)), "expired"),
    ],
)
def test_nothing_reaches_production_without_a_passed_matching_unexpired_report(
    given_report: GateReport | None, says: str
) -> None:
    with pytest.raises(NotAllowed, match=says):
        promote(Rollout("churn"), version(2), given_report, NOW)


def test_a_threshold_changed_since_the_gates_is_judged_again() -> None:
    judged, moved = replace(report(2), threshold=0.4), replace(version(2), threshold=0.0001)
    assert promote(Rollout("churn"), replace(moved, threshold=0.4), judged, NOW).champion == 2
    with pytest.raises(NotAllowed, match=r"judged at threshold 0\.4, it decides at 0\.0001"):
        promote(Rollout("churn"), moved, judged, NOW)


def test_an_override_is_named() -> None:
    assert promote(Rollout("churn"), version(2), None, NOW, override="night shift").champion == 2


@pytest.mark.parametrize("stage", [Stage.ARCHIVED, Stage.REJECTED])
def test_archived_and_rejected_versions_are_not_promoted(stage: Stage) -> None:
    with pytest.raises(NotAllowed, match=stage.value):
        promote(Rollout("churn"), version(2, stage), report(2), NOW, override="me")


def test_rollback_goes_back_then_further_back_never_forward() -> None:
    rollout = Rollout("churn", 3, champion=3, previous=(1, 2))
    first = roll_back(rollout)
    second = roll_back(first)
    assert (first.champion, second.champion) == (2, 1)
    with pytest.raises(NotAllowed, match="no earlier"):
        roll_back(second)
    assert roll_back(second, to=3).champion == 3
    assert stages(rollout, first) == {3: Stage.ARCHIVED, 2: Stage.PRODUCTION}


def test_a_version_that_never_served_cannot_be_rolled_back_to() -> None:
    with pytest.raises(NotAllowed, match="choose among 1"):
        roll_back(Rollout("churn", 2, champion=2, previous=(1,)), to=9)


@given(
    st.lists(
        st.one_of(
            st.integers(1, 6).map(lambda n: ("promote", n)),
            st.just(("back", None)),
            st.integers(1, 6).map(lambda n: ("to", n)),
        )
    )
)
def test_any_order_of_moves_keeps_one_champion_that_was_promoted(moves: list[tuple[str, int | None]]) -> None:
    rollout, served, revision = Rollout("churn"), set(), 0
    for kind, number in moves:
        try:
            if kind == "promote":
                assert number is not None
                rollout = promote(rollout, version(number), report(number, rollout.champion), NOW)
                served.add(number)
            else:
                rollout = roll_back(rollout, to=number if kind == "to" else None)
        except NotAllowed:
            continue
        revision += 1
        assert rollout.revision == revision
        assert rollout.champion in served
        assert rollout.champion not in rollout.reachable
        assert set(rollout.reachable) <= served
        assert not set(rollout.previous) & set(rollout.left)
