"""Metrics of the field for every task, per segment; what cannot be measured is None."""

import numpy as np
import polars as pl
import pytest

from ecluse.core.errors import DeclarationError
from ecluse.training.evaluate import Judged, metrics_of, segment_masks, segment_values, segments_of

COSTS = {"false_positive": 1.0, "false_negative": 5.0, "action_value": 4.0}
RNG = np.random.default_rng(0)


def test_binary() -> None:
    y = np.array([0, 0, 1, 1] * 20)
    found = metrics_of("binary", Judged(y, np.clip(y * 0.6 + RNG.random(80) * 0.4, 0, 1)), 0.5, COSTS)
    for name in ("roc_auc", "pr_auc", "log_loss", "brier", "precision", "recall", "f1", "precision_at_10", "lift_at_10",
                 "calibration_error", "accuracy", "accuracy_trivial", "expected_value"):  # fmt: skip
        assert found[name] is not None, name
    assert found["roc_auc"] == 1.0
    assert found["expected_value"] == 2.0  # every second row is a true positive worth 4
    assert "expected_value" not in metrics_of("binary", Judged(y, y * 1.0), 0.5, None)


def test_one_class_has_no_ranking() -> None:
    assert metrics_of("binary", Judged(np.zeros(5, dtype=np.int64), np.full(5, 0.1)), 0.5, None)["roc_auc"] is None


def test_classes_never_trained_on_are_left_out() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    assert metrics_of("multiclass", Judged(np.array([0, 1, -1]), p), None, None)["accuracy"] == 1.0
    assert metrics_of("multiclass", Judged(np.array([-1]), p[2:]), None, None) == {}


def test_regression() -> None:
    found = metrics_of("regression", Judged(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0])), None, None)
    assert found["mae"] == pytest.approx(2 / 3)


def test_segments_are_every_value_with_enough_rows() -> None:
    frame = pl.DataFrame(
        {"plan": ["a"] * 6 + ["b"] * 3 + [None] * 4, "senior": [True] * 10 + [False] * 3, "n": [1.0] * 13}
    )
    masks = dict(segment_masks(frame, ["plan", "senior", "n"], 4))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "plan=a": 6, "plan=missing": 4, "senior=true": 10, "n=1": 13,
    }  # fmt: skip
    rows = Judged(np.array([0, 1] * 6 + [0]), np.linspace(0, 1, 13))
    found = segments_of("binary", frame, rows, ["plan"], least=4, threshold=0.5, costs=None, prefix="train: ")
    assert set(found) == {"train: plan=a", "train: plan=missing"}
    assert found["train: plan=a"] == metrics_of("binary", Judged(rows.y[:6], rows.prediction[:6]), 0.5, None)


def test_values_are_named_as_people_write_them() -> None:
    assert segment_values(pl.Series([1.5, 2.0])).to_list() == ["1.5", "2"]
    assert segment_values(pl.Series([True, None])).to_list() == ["true", "missing"]
    assert segment_values(pl.Series([3, 4])).to_list() == ["3", "4"]


def test_an_unknown_segment_names_the_features() -> None:
    with pytest.raises(DeclarationError, match=r"no feature `plna`.*gates.segments.*plan"):
        list(segment_masks(pl.DataFrame({"plan": ["a"]}), ["plna"], 1))
