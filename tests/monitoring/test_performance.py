from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitoring.records import prediction

from ecluse.core.instants import parse_instant, to_micros
from ecluse.core.loop_settings import Monitoring
from ecluse.core.recipe import Split, held_position
from ecluse.core.settings import Costs
from ecluse.core.verdict import Finding, Outcome
from ecluse.monitoring.performance import (
    Joined,
    Realised,
    Truths,
    join,
    judge_performance,
    missed_by_estimate,
    realised,
    target_shift,
    unlearnt,
)
from ecluse.stats.reference import describe_column

AT = to_micros(parse_instant("2024-01-31"))


def test_truths_join_by_request_then_by_entity_and_moment() -> None:
    records = [prediction(1), prediction(2), prediction(3), prediction(4, as_of="2024-02-29T00:00:00Z")]
    truths = Truths({"r-1": True}, {("u1", AT): False, ("u2", AT): False, ("u4", AT): True})
    joined = join(records, truths)
    assert [(r["id"], truth) for r, truth in zip(joined.records, joined.truths, strict=True)] == [
        ("w-1", True),
        ("w-2", False),
    ]
    assert joined.waiting == 2


def test_the_newest_answer_to_a_question_counts() -> None:
    records = [
        prediction(1, score=0.1),
        prediction(2, entity="u1", score=0.9),
        prediction(3, entity=None, request_id="r-3"),
    ]
    joined = join(records, Truths({"r-3": True}, {("u1", AT): True}))
    assert [r["score"] for r in joined.records] == [0.9, 0.5]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_every_question_is_joined_or_waiting(asked: list[tuple[int, bool]]) -> None:
    records = [prediction(i, entity=f"u{user}") for i, (user, _) in enumerate(asked)]
    truths = Truths({}, {(f"u{user}", AT): True for user, known in asked if known})
    joined = join(records, truths)
    assert len(joined.records) + joined.waiting == len({user for user, _ in asked})
    assert len(joined.records) == len(truths.by_entity)


def test_binary_metrics_are_at_the_threshold_in_force() -> None:
    scores = [0.2, 0.35, 0.4, 0.1]
    records = [prediction(i, score=s, threshold=0.3) for i, s in enumerate(scores)]
    found = realised("binary", (), Joined(records, [False, True, True, False], 3), Costs(action_value=10))
    assert (found.joined, found.waiting) == (4, 3)
    assert (found.metrics["roc_auc"], found.metrics["f1"]) == (1.0, 1.0)
    assert "expected_value" in found.metrics


def test_multiclass_and_regression() -> None:
    records = [
        prediction(1, scores={"a": 0.9, "b": 0.1}, decision="a"),
        prediction(2, scores={"a": 0.2, "b": 0.8}, decision="b"),
        prediction(3, scores={"a": 0.2, "b": 0.8}, decision="b"),
    ]
    assert realised("multiclass", ("a", "b"), Joined(records, ["a", "b", "new"], 0)).metrics["accuracy"] == 1.0
    values = [prediction(1, score=1.0), prediction(2, score=4.0)]
    assert realised("regression", (), Joined(values, [2.0, 3.0], 0)).metrics["mae"] == 1.0
    assert realised("binary", (), Joined([], [], 5)) == Realised(0, 5, {})


def test_limits_are_floors_or_ceilings() -> None:
    limits = Monitoring(performance={"roc_auc": 0.7, "log_loss": 0.5}, min_outcomes=100)
    good = judge_performance("binary", 1, Realised(200, 0, {"roc_auc": 0.8, "log_loss": 0.4}), limits)
    assert all(f.passed for f in good)
    bad = judge_performance("binary", 1, Realised(200, 0, {"roc_auc": 0.6, "log_loss": 0.6}), limits)
    assert [f.outcome for f in bad] == [Outcome.FAILED, Outcome.FAILED]
    few = judge_performance("binary", 1, Realised(99, 0, {"roc_auc": 0.1}), limits)
    assert {f.outcome for f in few} == {Outcome.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("metric", "value", "interval", "outcome"),
    [
        ("roc_auc", 0.68, (0.60, 0.76), Outcome.INCONCLUSIVE),
        ("roc_auc", 0.60, (0.53, 0.69), Outcome.FAILED),
        ("roc_auc", 0.72, (0.64, 0.80), Outcome.PASSED),
        ("log_loss", 0.75, (0.65, 0.85), Outcome.INCONCLUSIVE),
        ("log_loss", 0.80, (0.71, 0.90), Outcome.FAILED),
        ("roc_auc", 0.69, (0.71, 0.80), Outcome.INCONCLUSIVE),  # an interval on the good side proves no miss
    ],
)
def test_a_limit_is_missed_by_the_whole_interval(
    metric: str, value: float, interval: tuple[float, float], outcome: Outcome
) -> None:
    limits = Monitoring(performance={metric: 0.7})
    of = Realised(200, 0, {metric: value}, {metric: interval})
    [finding] = judge_performance("binary", 1, of, limits)
    assert finding.outcome is outcome, finding.why
    assert ("interval" in finding.why) is (outcome is not Outcome.PASSED)
    [bare] = judge_performance("binary", 1, replace(of, intervals={}), limits)
    assert (bare.outcome is Outcome.PASSED) is (outcome is Outcome.PASSED)
    assert ("no interval" in bare.why) is not bare.passed
    missed = missed_by_estimate("binary", of, limits)
    assert missed == (() if outcome is Outcome.PASSED else (metric,))
    assert missed_by_estimate("binary", replace(of, joined=10), limits) == ()


def judged(rng: np.random.Generator, rows: int, shift: float) -> Finding:
    """A window of a model of two normal distributions so far apart, 15 % positives, as the monitor judges it against a floor of 0.72."""
    limits = Monitoring(performance={"roc_auc": 0.72})
    y = rng.random(rows) < 0.15
    scores = 1 / (1 + np.exp(-(rng.normal(size=rows) + shift * y)))
    records = [prediction(i, score=float(score)) for i, score in enumerate(scores)]
    joined = Joined(records, y.tolist(), 0)
    missed = missed_by_estimate("binary", realised("binary", (), joined), limits)
    [finding] = judge_performance("binary", 1, realised("binary", (), joined, None, missed), limits)
    return finding


@pytest.mark.parametrize(("rows", "windows"), [(200, 200), (1_000, 100), (10_000, 10)])
def test_a_good_model_is_called_bad_no_more_often_than_the_interval_says(rows: int, windows: int) -> None:
    """A true AUC of 0.75 over the floor of 0.72: of a 90 % interval one end is off in one window of twenty."""
    rng = np.random.default_rng(rows)
    found = [judged(rng, rows, 0.954) for _ in range(windows)]
    assert sum(each.outcome is Outcome.FAILED for each in found) <= 0.05 * windows


def test_a_bad_model_is_found() -> None:
    rng = np.random.default_rng(7)
    found = [judged(rng, 1_000, 0.5) for _ in range(40)]  # a true AUC of 0.64
    assert sum(each.outcome is Outcome.FAILED for each in found) >= 36


@pytest.mark.parametrize(
    ("before", "now", "breached"),
    [
        ([True] * 250 + [False] * 750, [True] * 100 + [False] * 300, False),
        ([True] * 250 + [False] * 750, [True] * 200 + [False] * 200, True),
        ([1.0, 2.0, 3.0] * 300, [2.0, 3.0, 4.0] * 100, True),
        ([1.0, 2.0, 3.0] * 300, [1.0, 2.0, 3.0] * 100, False),
        (["a", "b"] * 500, ["a"] * 300 + ["b"] * 100, True),
        (["a", "b"] * 500, ["a"] * 100 + ["b"] * 100 + ["c"] * 80, True),
    ],
)
def test_target_shift(before: list[bool | float | str], now: list[bool | float | str], breached: bool) -> None:
    kind = "boolean" if isinstance(before[0], bool) else "category" if isinstance(before[0], str) else "number"
    [finding] = target_shift(describe_column(before, kind), now, Monitoring())  # type: ignore[arg-type]
    assert finding.outcome is (Outcome.FAILED if breached else Outcome.PASSED), finding.why


def test_target_shift_asks_for_truths() -> None:
    reference = describe_column([True, False] * 50, "boolean")
    assert target_shift(reference, [], Monitoring()) == []
    assert target_shift(reference, [True], replace(Monitoring(), target_shift=0.0)) == []
    [few] = target_shift(reference, [True] * 10, Monitoring())
    assert few.outcome is Outcome.INCONCLUSIVE


def test_what_a_version_learnt_by_heart_proves_nothing() -> None:
    last = datetime(2024, 1, 31, tzinfo=UTC)
    split = Split("entity", 0.25, last_moment=last)
    trained = next(f"u{i}" for i in range(100) if held_position(f"u{i}") >= 0.25)
    held = next(f"u{i}" for i in range(100) if held_position(f"u{i}") < 0.25)
    asked = [(trained, "2024-01-31T00:00:00Z"), (trained, "2024-02-29T00:00:00Z"), (held, "2024-01-31T00:00:00Z")]
    records = [{"entity": entity, "as_of": at} for entity, at in asked]
    left = unlearnt(Joined(records, [True, False, True], 7), split)
    assert (left.records, left.truths, left.waiting) == (records[1:], [False, True], 7)
    assert unlearnt(left, None) == left
