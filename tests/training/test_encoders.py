"""The encoders users build their pipelines with."""

from __future__ import annotations

import numpy as np
import polars as pl

from ecluse.training.encoders import encoder, scaled_encoder

FRAME = pl.DataFrame({"age": [20.0, 40.0, float("nan")], "plan": ["Gold", None, "Basic"], "active": [1.0, 0.0, 1.0]})


def test_words_become_columns_and_numbers_pass() -> None:
    step = encoder().fit(FRAME)
    assert step.get_feature_names_out().tolist() == ["plan_Basic", "plan_Gold", "plan_None", "age", "active"]
    unseen = step.transform(FRAME.head(1).with_columns(plan=pl.lit("Trial")))
    assert unseen.tolist() == [[0.0, 0.0, 0.0, 20.0, 1.0]]


def test_scaled_numbers_have_no_gaps() -> None:
    out = scaled_encoder().fit_transform(FRAME)
    assert not np.isnan(out).any()
    assert np.allclose(out[:, 3:].mean(axis=0), 0.0)


def test_all_numbers_as_array() -> None:
    x = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(encoder().fit_transform(x), x)
