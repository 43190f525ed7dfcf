from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from tests.monitoring.records import KINDS, population, prediction, predictions

from ecluse.core.loop_settings import Monitoring
from ecluse.core.recipe import Split, trained_on
from ecluse.core.verdict import Outcome
from ecluse.monitoring.watch import Watched, watch
from ecluse.monitoring.window import by_version, make_window
from ecluse.stats.reference import Reference, describe

LIMITS = Monitoring()
NOW = datetime(2024, 1, 31, tzinfo=UTC)


def _scores(columns: dict[str, list[Any]]) -> list[float]:
    return [1 / (1 + np.exp((20 if hours is None else hours) / 8 - 2.5)) for hours in columns["hours"]]


@pytest.fixture(scope="module")
def reference() -> Reference:
    columns = population(7_000, 0)
    return describe(columns, KINDS, _scores(columns), [i % 4 == 0 for i in range(7_000)])


def _watch(reference: Reference, rows: int, limits: Monitoring = LIMITS, **moved: Any) -> Watched:
    columns = population(rows, 5, **moved)
    window = make_window("churn", 1, by_version(predictions(columns, _scores(columns)), "churn"))
    return watch(reference, window, limits)


@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_unmoved_traffic_passes_at_every_size(reference: Reference, rows: int) -> None:
    watched = _watch(reference, rows)
    assert watched.verdict.passed, watched.verdict.findings
    assert watched.features.passed
    assert watched.drifted == ()


@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_moved_traffic_is_found_at_every_size(reference: Reference, rows: int) -> None:
    watched = _watch(reference, rows, shift=1.0)
    assert watched.drifted == ("hours",)
    assert {f.check for f in watched.verdict.failed} == {"drift_share", "prediction_psi"}
    [finding] = watched.features.failed
    assert finding.subject == "hours"
    assert "PSI" in finding.why
    assert "sd passes 0.5" in finding.why


def test_too_few_rows_judge_nothing(reference: Reference) -> None:
    watched = _watch(reference, 150, shift=3.0)
    assert [f.outcome for f in watched.verdict.findings] == [Outcome.INCONCLUSIVE]
    assert not watched.verdict.breached
    assert {f.outcome for f in watched.features.findings} == {Outcome.INCONCLUSIVE}


def test_a_moved_feature_is_no_breach_below_the_share(reference: Reference) -> None:
    watched = _watch(reference, 1_000, replace(LIMITS, drift_share=0.5, prediction_psi=0.0), shift=1.0)
    assert watched.drifted == ("hours",)
    assert watched.verdict.passed


def test_a_limit_of_zero_switches_a_statistic_off(reference: Reference) -> None:
    off = replace(LIMITS, psi=0.0, mean_shift=0.0, jensen_shannon=0.0, ks=0.0, wasserstein=0.0, prediction_psi=0.0)
    assert _watch(reference, 1_000, off, shift=1.0).drifted == ()
    assert _watch(reference, 1_000, off, missing=0.4).drifted == ("hours",)


def test_a_multiclass_model_is_watched_by_its_answers() -> None:
    made = describe({}, {}, ["a"] * 500 + ["b"] * 500, ["a", "b"] * 500)
    records = [prediction(i, decision="a" if i % 10 else "b", score=0.9) for i in range(400)]
    watched = watch(made, make_window("churn", 1, by_version(records, "churn")), LIMITS)
    assert [f.check for f in watched.verdict.failed] == ["prediction_psi"]


def test_rows_trained_on_say_nothing_about_the_scores(reference: Reference) -> None:
    split = Split("entity", 0.25)
    columns = population(2_000, 5)
    records = predictions(columns, _scores(columns))
    for record in records:  # an overgrown forest is sure of whom it was trained on
        if trained_on(split, record["entity"], NOW):
            record["score"] = float(record["score"] > 0.5)
    versions = by_version(records, "churn")
    assert watch(reference, make_window("churn", 1, versions), LIMITS).verdict.breached
    window = make_window("churn", 1, versions, split)
    assert sum(window.fresh) == pytest.approx(500, abs=60)
    assert watch(reference, window, LIMITS).verdict.passed
    few = make_window("churn", 1, by_version(records[:400], "churn"), split)
    judged = watch(reference, few, LIMITS).verdict
    assert [f.check for f in judged.findings if f.outcome is Outcome.INCONCLUSIVE] == ["prediction_psi"]
