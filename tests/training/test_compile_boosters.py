"""LightGBM and XGBoost, compiled, against the libraries' own answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.pipeline import make_pipeline
from tests.training.compiled import EXACT, FEATURES, awkward, fitted, gap, table, target
from xgboost import XGBClassifier, XGBRegressor

from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import single_precision
from ecluse.training.encode import model_frame
from ecluse.training.encoders import encoder


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("boosting", ["gbdt", "rf", "dart"])
def test_lightgbm(task: str, boosting: str) -> None:
    kind = LGBMRegressor if task == "regression" else LGBMClassifier
    extra: dict[str, Any] = {"subsample": 0.7, "subsample_freq": 1} if boosting == "rf" else {}
    model = kind(n_estimators=12, num_leaves=9, min_child_samples=5, boosting_type=boosting, verbose=-1, **extra)
    assert gap(fitted(make_pipeline(encoder(), model), task), task, awkward(table(500, 2))) <= EXACT


def test_lightgbm_sets_of_categories_and_no_missing_in_training() -> None:
    rng = np.random.default_rng(0)
    features = tuple(Feature(name, "number") for name in "abc")
    x = np.stack([rng.integers(0, 12, 800).astype(float), rng.normal(size=800), rng.normal(size=800)], axis=1)
    y = np.isin(x[:, 0], [1, 4, 5, 9]) ^ (x[:, 1] > 0.3)
    model = LGBMClassifier(n_estimators=15, num_leaves=9, min_data_per_group=5, verbose=-1)
    model.fit(x, y.astype(int), categorical_feature=[0])
    rows = np.concatenate(
        [x, [[40.0, 0, 0], [-1, 0, 0], [2.7, 0, 0]], x[:50] * [1, np.nan, 1], x[:50] * [np.nan, 1, np.nan]]
    )
    assert gap(model, "binary", pl.DataFrame(rows, schema=list("abc")), features, as_array=True) <= EXACT


@pytest.mark.parametrize("objective", ["poisson", "quantile", "tweedie"])
def test_lightgbm_links(objective: str) -> None:
    pipeline = make_pipeline(encoder(), LGBMRegressor(n_estimators=8, objective=objective, verbose=-1))
    assert gap(fitted(pipeline, "regression"), "regression", table(300, 2)) <= EXACT


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_xgboost_within_its_last_bit(task: str) -> None:
    kind = XGBRegressor if task == "regression" else XGBClassifier
    for options in ({}, {"num_parallel_tree": 2}):
        pipeline = fitted(make_pipeline(encoder(), kind(n_estimators=25, max_depth=4, **options)), task)
        assert single_precision(pipeline)
        assert gap(pipeline, task, awkward(table(500, 2))) <= (0.0 if task == "regression" else 1.2e-7)


@pytest.mark.parametrize("objective", ["count:poisson", "reg:gamma", "reg:logistic", "reg:absoluteerror"])
def test_xgboost_links(objective: str) -> None:
    train = table(500, 1)
    y = target(train, "binary" if objective == "reg:logistic" else "regression").astype(float)
    pipeline = make_pipeline(encoder(), XGBRegressor(n_estimators=10, objective=objective)).fit(
        model_frame(train, FEATURES), y
    )
    assert gap(pipeline, "regression", table(300, 2)) <= 1e-6


def test_xgboost_stops_at_the_best_iteration() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)), rng.integers(0, 2, 400)
    model = XGBClassifier(n_estimators=60, early_stopping_rounds=3).fit(
        x[:200], y[:200], eval_set=[(x[200:], y[200:])], verbose=False
    )
    assert model.best_iteration < 59
    features = tuple(Feature(name, "number") for name in "abc")
    assert gap(model, "binary", pl.DataFrame(x, schema=list("abc")), features, as_array=True) <= 1.2e-7
