"""Nobody is trained on and judged on; an entity keeps its side for ever; time goes forward only."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.core.recipe import trained_on
from ecluse.core.settings import Training
from ecluse.training.split import make_split, masks

START = datetime(2024, 1, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
ROWS = st.lists(st.tuples(st.text("abcé1", min_size=1, max_size=3), st.integers(0, 90)), min_size=1, max_size=60)

NO_DELAY = timedelta(0)


def columns(rows: list[tuple[str, int]]) -> tuple[pl.Series, pl.Series]:
    keys = pl.Series([key for key, _ in rows], dtype=pl.String)
    return keys, pl.Series([START + timedelta(days=day) for _, day in rows], dtype=INSTANT)


@given(ROWS, st.sampled_from([0.1, 0.25, 0.5]))
def test_by_entity_a_key_is_on_one_side_whatever_the_order(rows: list[tuple[str, int]], held_out: float) -> None:
    training = Training(held_out=held_out)
    keys, at = columns(rows)
    split = make_split(training, keys, at, NO_DELAY)
    trained, held = masks(split, keys, at, training)
    assert (trained ^ held).all()
    sides = dict(zip(keys, held, strict=True))
    assert all(sides[key] == side for key, side in zip(keys, held, strict=True))
    again, _ = masks(split, keys.reverse(), at.reverse(), training)
    assert (again[::-1] == trained).all()
    assert all(trained_on(split, key, moment) == side for key, moment, side in zip(keys, at, trained, strict=True))


@given(ROWS, st.sampled_from([0, 5, 40]), st.sampled_from([0.1, 0.25, 0.6]))
def test_by_time_the_future_is_held_out_and_the_embargo_used_by_neither(
    rows: list[tuple[str, int]], embargo: int, held_out: float
) -> None:
    keys, at = columns(rows)
    training = Training(split="time", held_out=held_out, embargo=timedelta(days=embargo))
    if at.n_unique() < 2:
        with pytest.raises(InvalidInput, match="two label moments"):
            make_split(training, keys, at, NO_DELAY)
        return
    split = make_split(training, keys, at, NO_DELAY)
    trained, held = masks(split, keys, at, training)
    assert not (trained & held).any()
    assert held.any()
    moments = at.to_numpy()
    if trained.any():
        assert moments[trained].max() + np.timedelta64(embargo, "D") < moments[held].min()
    # what is not surely held out counts as possibly seen
    assert all(trained_on(split, key, moment) for key, moment, side in zip(keys, at, trained, strict=True) if side)
    assert not any(trained_on(split, key, moment) for key, moment, side in zip(keys, at, held, strict=True) if side)


def test_by_time_the_cut_comes_closest_to_the_declared_share() -> None:
    keys, at = columns([("a", 0)] * 50 + [("a", 30)] * 25 + [("a", 60)] * 25)
    split = make_split(Training(split="time", held_out=0.3), keys, at, NO_DELAY)
    assert split.cutoff == START + timedelta(days=30)


def test_history_and_validation_are_windows_behind_the_newest_label() -> None:
    keys, at = columns([(f"u{i}", day) for i in range(200) for day in (0, 30, 60)])
    training = Training(held_out=0.25, history=timedelta(days=35), validation=timedelta(days=20))
    split = make_split(training, keys, at, NO_DELAY)
    trained, held = masks(split, keys, at, training)
    days = (at - START).dt.total_days().to_numpy()
    assert set(days[trained].tolist()) == {30, 60}
    assert set(days[held].tolist()) == {60}


def test_the_held_share_is_about_the_declared_one() -> None:
    keys, at = columns([(f"u{i}", 0) for i in range(10_000)])
    training = Training(held_out=0.25)
    _, held = masks(make_split(training, keys, at, NO_DELAY), keys, at, training)
    assert abs(held.mean() - 0.25) < 0.02


def test_no_rows_are_an_error() -> None:
    with pytest.raises(InvalidInput, match="no labelled rows"):
        make_split(Training(), *columns([]), NO_DELAY)


def test_without_a_declared_embargo_no_truth_unknown_at_the_cut_is_trained_on() -> None:
    keys, at = columns([("a", day) for day in (0, 30, 60, 90, 120)])
    training = Training(split="time", held_out=0.4)
    for days, kept in ((0, 3), (30, 3), (35, 2), (65, 1)):
        split = make_split(training, keys, at, timedelta(days=days))
        trained, held = masks(split, keys, at, training)
        assert (trained.sum(), held.sum()) == (kept, 2)
        first_held = at.filter(pl.Series(held)).min()
        assert all(moment + timedelta(days=days) <= first_held for moment in at.filter(pl.Series(trained)))
