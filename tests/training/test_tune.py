"""Folds lie inside the rows trained on, apart from each other, and never look ahead; what is held out changes no score."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from tests.training.jobs import job

from ecluse.core.errors import InvalidInput
from ecluse.core.settings import Training
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.make import AT, KEY
from ecluse.training.split import make_split, masks
from ecluse.training.tune import make_bench, make_folds, score_fold

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 60)), min_size=4, max_size=60)
BUILDS: dict[str, Any] = {
    "binary": lambda: make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=10)),
    "multiclass": lambda: make_pipeline(scaled_encoder(), LogisticRegression()),
    "regression": lambda: make_pipeline(scaled_encoder(), Ridge()),
}


def frame_of(rows: list[tuple[str, int]]) -> pl.DataFrame:
    at = [START + timedelta(days=day) for _, day in rows]
    return pl.DataFrame({KEY: [key for key, _ in rows], AT: pl.Series(at, dtype=pl.Datetime("us", "UTC"))})


@given(ROWS, st.integers(2, 5))
def test_by_entity_every_row_is_judged_once_and_no_entity_is_on_both_sides(
    rows: list[tuple[str, int]], count: int
) -> None:
    folds = make_folds(frame_of(rows), Training(), timedelta(0), count)
    keys = np.array([key for key, _ in rows])
    assert (np.sum([fold.judged for fold in folds], axis=0) == 1).all()
    for fold in folds:
        assert not set(keys[fold.fitted]) & set(keys[fold.judged])


@given(ROWS, st.integers(2, 5), st.integers(0, 20), st.sampled_from([None, 0, 10]))
def test_by_time_a_fold_is_judged_by_what_was_known_before_it(
    rows: list[tuple[str, int]], count: int, delay: int, embargo: int | None
) -> None:
    gap = None if embargo is None else timedelta(days=embargo)
    frame = frame_of(rows)
    if frame[AT].n_unique() < 3:
        return
    folds = make_folds(frame, Training(split="time", embargo=gap), timedelta(days=delay), count)
    days = np.array([day for _, day in rows])
    for fold in folds:
        assert days[fold.fitted].max() + (delay if embargo is None else embargo) <= days[fold.judged].min()
        assert days[fold.fitted].max() < days[fold.judged].min()
    assert not folds or np.sum([fold.judged for fold in folds], axis=0).max() == 1


@pytest.mark.parametrize("split", ["entity", "time"])
def test_rows_held_out_are_never_seen(split: str) -> None:
    """Whatever is done to them, the scores stay, to the last bit."""
    honest = job(BUILDS["binary"], training={"split": split})
    training = honest.settings.training
    keys, at = honest.frame[KEY], honest.frame[AT]
    _, held = masks(make_split(training, keys, at, timedelta(0)), keys, at, training)
    assert held.any()
    flip = pl.Series(held)
    frame = honest.frame.with_columns(pl.when(flip).then(-1000.0).otherwise("mean_age").alias("mean_age"))
    spoilt = replace(honest, frame=frame, y=honest.y ^ flip)
    scores = []
    for each in (honest, spoilt):
        bench = make_bench(each, 2)
        assert bench.verdict.passed, bench.verdict.failed
        assert bench.job.frame.height <= int((~held).sum())
        scores.append([score_fold(bench.job, fold) for fold in bench.folds])
    assert scores[0] == scores[1]
    assert all(0.5 < score <= 1 for score in scores[0])


@pytest.mark.parametrize("task", BUILDS)
def test_every_task_is_scored_by_its_declared_metric_alike_each_time(task: str) -> None:
    bench = make_bench(job(BUILDS[task], task), 3)
    assert len(bench.folds) == 3
    scores = [score_fold(bench.job, fold) for fold in bench.folds]
    assert scores == [score_fold(bench.job, fold) for fold in bench.folds]
    assert all(0 < score < 1.2 for score in scores)


def test_too_few_folds_and_too_few_rows() -> None:
    with pytest.raises(InvalidInput, match="1 folds"):
        make_bench(job(BUILDS["binary"]), 1)
    few = make_bench(job(BUILDS["binary"], rows=30), 3)
    assert not few.verdict.passed
    assert few.folds == ()
