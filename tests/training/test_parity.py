"""Parity finds what is wrong with a scorer: a shift, a changed decision, a NaN, a wrong shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.errors import InvalidInput
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encode import model_frame
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.parity import difference, draw, parity

FEATURES = (Feature("age", "number"), Feature("active", "boolean"), Feature("plan", "category", ("Basic", "Gold")))


def rows(count: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({
        "age": rng.normal(40, 10, count),
        "active": rng.random(count) < 0.5,
        "plan": rng.choice(["Basic", "Gold"], count),
    })  # fmt: skip


def fitted(model: Any) -> Any:
    frame = rows()
    y = (frame["age"].to_numpy() + 9 * (frame["plan"] == "Gold").to_numpy() > 45).astype(int)
    return model.fit(model_frame(frame, FEATURES), y)


BOOSTED = fitted(make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=20)))
SCORER = OnnxScorer(compile_model(BOOSTED, FEATURES, "binary"))


def predict(frame: pl.DataFrame) -> np.ndarray:
    return np.asarray(BOOSTED.predict_proba(frame)[:, 1])


class Bent:
    """A scorer that is wrong in one way."""

    def __init__(self, bend: Any) -> None:
        self.bend = bend

    def score(self, matrix: np.ndarray) -> np.ndarray:
        return np.asarray(self.bend(SCORER.score(matrix), matrix))


def test_the_compiled_model_passes_on_ten_thousand_rows() -> None:
    result = parity(predict, SCORER, rows(), FEATURES, threshold=0.5)
    assert result.passed
    assert (result.rows, result.held) == (10_000, 400)
    assert result.max_difference < 1e-12
    assert result.missing_tried == ("age", "active", "plan")
    assert result.unseen_tried == ("plan",)
    assert all(finding.passed for finding in result.findings())
    assert result == parity(predict, SCORER, rows(), FEATURES, threshold=0.5)


def test_linear_model_and_more_held_rows_than_asked() -> None:
    model = fitted(make_pipeline(scaled_encoder(), LogisticRegression()))
    scorer = OnnxScorer(compile_model(model, FEATURES, "binary"))
    result = parity(
        lambda frame: model.predict_proba(frame)[:, 1], scorer, rows(), FEATURES, at_least=100, threshold=0.5
    )
    assert result.passed
    assert result.rows == 400 + 2 * 64  # the held rows and the pairs around the threshold


@pytest.mark.parametrize(("bend", "difference"), [
    (lambda y, x: y + 1e-6, 1e-6),
    (lambda y, x: np.where(np.isnan(x[:, :1]), 0.5 + y / 9, y), None),
    (lambda y, x: np.where(x[:, 2:] == -1, np.nan, y), math.inf),
    (lambda y, x: y.ravel(), math.inf),
], ids=["shifted", "missing", "nan", "shape"])  # fmt: skip
def test_a_bent_scorer_fails(bend: Any, difference: float | None) -> None:
    result = parity(predict, Bent(bend), rows(), FEATURES, threshold=0.5, at_least=3000)
    assert not result.passed
    assert not all(finding.passed for finding in result.findings())
    if difference is not None:
        assert result.max_difference == pytest.approx(difference)


def test_changed_decisions_are_counted() -> None:
    flip = Bent(lambda y, x: np.where(y >= 0.5, 0.4, y))
    result = parity(predict, flip, rows(), FEATURES, threshold=0.5, at_least=3000)
    assert result.label_flips > 1000
    assert result.at_edge == 0
    assert not result.passed


def test_a_threshold_on_a_score_counts_its_last_bit_apart() -> None:
    edge = float(np.median(predict(rows())))
    last_bit = Bent(lambda y, x: np.where(y == np.nextafter(edge, 9), edge, np.nextafter(edge, -9)))
    result = parity(lambda frame: np.full(frame.height, edge), last_bit, rows(), FEATURES, threshold=edge, at_least=500)
    assert (result.label_flips, result.at_edge) == (0, 500)
    assert result.passed


def test_many_classes_are_decided_by_the_largest() -> None:
    told = np.array([[0.2, 0.5, 0.3]] * 400)
    turned = Bent(lambda y, x: np.tile([0.5, 0.2, 0.3], (len(y), 1)))
    result = parity(lambda frame: told[:1].repeat(frame.height, axis=0), turned, rows(), FEATURES, at_least=400)
    assert result.label_flips == 400


def test_columns_the_estimator_refuses_stay_whole() -> None:
    step = make_pipeline(encoder(), LogisticRegression())
    step.named_steps["columntransformer"].set_params(words=OneHotEncoder(sparse_output=False))
    model = fitted(step)
    scorer = OnnxScorer(compile_model(model, FEATURES, "binary"))
    result = parity(lambda frame: model.predict_proba(frame)[:, 1], scorer, rows(), FEATURES, at_least=1000)
    assert result.passed
    assert result.missing_tried == result.unseen_tried == ()


def test_no_rows_is_an_error() -> None:
    with pytest.raises(InvalidInput):
        parity(predict, SCORER, rows().clear(), FEATURES)


def test_drawn_rows_stay_inside_what_was_observed_and_are_seeded() -> None:
    held = model_frame(rows(), FEATURES)
    drawn = draw(held, FEATURES, 2000, 3, missing=("age", "plan"), unseen=("plan",))
    assert drawn.equals(draw(held, FEATURES, 2000, 3, missing=("age", "plan"), unseen=("plan",)), null_equal=True)
    ages = drawn["age"].to_numpy()
    assert 0 < np.isnan(ages).sum() < 300
    assert held["age"].min() <= np.nanmin(ages) <= np.nanmax(ages) <= held["age"].max()
    assert drawn["plan"].null_count() > 0
    assert set(drawn["active"].unique()) <= {0.0, 1.0}


def test_difference_of_infinities_and_nan() -> None:
    assert difference(np.array([[math.inf, math.nan]]), np.array([[math.inf, math.nan]])) == 0.0
    assert difference(np.array([[math.nan]]), np.array([[0.0]])) == math.inf
    assert difference(np.zeros((0, 1)), np.zeros((0, 1))) == 0.0
