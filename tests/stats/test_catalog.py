"""The catalogue: every metric findable, computable and with the right direction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import Floats
from ecluse.stats.catalog import BY_TASK, METRICS, measure, metric_of, trivial_prediction
from ecluse.stats.metrics_binary import lift_at, log_loss, roc_auc

COSTS = {"false_positive": 1.0, "false_negative": 5.0, "action_value": 20.0}


def example(task: str) -> tuple[Floats, Floats, Floats]:
    """Labels, a perfect prediction and a poor one."""
    random = np.random.default_rng(0)
    if task == "regression":
        y = random.normal(10, 2, 200)
        return y, y.copy(), y + random.normal(0, 3, 200)
    k = 3 if task == "multiclass" else 2
    y = np.r_[np.arange(k), random.integers(k, size=200)]
    poor = random.dirichlet(np.ones(k), y.size)
    perfect = np.eye(k)[y]
    return (y, perfect, poor) if k == 3 else (y, perfect[:, 1], poor[:, 1])


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in BY_TASK.items() for name in names])
def test_perfect_beats_poor_in_the_declared_direction(task: str, name: str) -> None:
    metric = metric_of(task, name)
    y, perfect, poor = example(task)
    compute = metric.closed(costs=COSTS)
    gain = compute(y, perfect) - compute(y, poor)
    assert gain > 0 if metric.greater_is_better else gain < 0
    assert METRICS[name].greater_is_better == metric.greater_is_better
    assert (metric.name, metric.task) == (name, task)


def test_the_names_of_the_field_are_there() -> None:
    assert set(METRICS) >= {
        *("roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1", "precision_at_10"),
        *("lift_at_10", "calibration_error", "expected_value", "macro_f1", "balanced_accuracy", "roc_auc_ovr"),
        *("rmse", "mae", "r2", "median_absolute_error", "mape"),
    }


def test_a_metric_without_threshold_stays_itself_so_that_the_bootstrap_knows_it() -> None:
    assert metric_of("binary", "roc_auc").closed(threshold=0.2) is roc_auc


def test_measure_gives_everything_and_the_trivial_model() -> None:
    y, _, p = example("binary")
    found = measure("binary", y, p, threshold=0.3, costs=COSTS, top=(0.05, 0.2))
    assert {"expected_value", "precision_at_5", "lift_at_20", "accuracy_trivial", "log_loss_trivial"} <= set(found)
    assert "precision_at_10" not in found
    assert found["lift_at_20"] == lift_at(y, p, 0.2)
    assert found["accuracy_trivial"] == max(y.mean(), 1 - y.mean())
    assert found["log_loss_trivial"] == pytest.approx(log_loss(y, np.full(y.size, y.mean())))
    assert found["recall"] != measure("binary", y, p, threshold=0.7)["recall"]
    assert "expected_value" not in measure("binary", y, p)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_measure_of_the_other_tasks(task: str) -> None:
    y, perfect, _ = example(task)
    found = measure(task, y, perfect)
    assert {name for name in found if not name.endswith("_trivial")} == set(BY_TASK[task])
    assert not any(math.isnan(value) for value in found.values())


def test_measure_of_chosen_names() -> None:
    y, _, p = example("binary")
    assert list(measure("binary", y, p, names=["brier", "lift_at_1"])) == ["brier", "lift_at_1"]
    assert list(measure("binary", y, p, names=["log_loss_trivial"])) == ["log_loss", "log_loss_trivial"]


def test_measure_of_no_rows_or_one_class_is_nan_not_an_exception() -> None:
    assert all(math.isnan(value) for value in measure("binary", [], []).values())
    found = measure("binary", [0, 0], [0.2, 0.4])
    assert math.isnan(found["roc_auc"])
    assert found["log_loss_trivial"] == 0.0


@pytest.mark.parametrize(
    ("task", "name"),
    [("ranking", "roc_auc"), ("binary", "rmse"), ("binary", "auc"), ("binary", "lift_at_0"), ("binary", "lift_at_x"),
     ("regression", "lift_at_10"), ("binary", "recall_at_10"), ("binary", "precision_at_nan")],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_known_ones(task: str, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        metric_of(task, name)
    assert refused.value.cure.count(",") >= 2


def test_costs_must_be_exactly_the_three() -> None:
    for costs in (None, {}, {"false_positive": 1.0}, {**COSTS, "false_postive": 1.0}):
        with pytest.raises(InvalidInput, match="action_value"):
            measure("binary", [0, 1], [0.1, 0.9], names=["expected_value"], costs=costs)


def test_trivial_predictions() -> None:
    assert trivial_prediction("binary", [0, 0, 1, 0]) == 0.25
    assert trivial_prediction("regression", [1.0, 4.0]) == 2.5
    np.testing.assert_array_equal(trivial_prediction("multiclass", [0, 1, 1, 1], classes=3), [0.25, 0.75, 0])
    with pytest.raises(InvalidInput):
        trivial_prediction("binary", [])
    with pytest.raises(InvalidInput):
        trivial_prediction("ranking", [1])
