"""Which truths are known at a moment: maturity, corrections, missing ones."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.contract import Boolean, Category, Column, Integer, Table
from ecluse.core.entity import Entity
from ecluse.core.model import Label
from ecluse.data.frame import history_of, schema_of
from ecluse.data.labels import label_rows

START = datetime(2024, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def labels(column: Column) -> Table:
    return Table("labels", Entity("user_id"), {"y": column})


def history(table: Table, *given: tuple[str, int, int, Any]) -> pl.DataFrame:
    data = [(key, day(event), day(known), y) for key, event, known, y in given]
    return pl.DataFrame(data, schema=schema_of(table), orient="row")


def test_only_mature_truths_are_learnt_from() -> None:
    table = labels(Boolean(nulls=0.5))
    rows = history(
        table, ("b", 1, 1, True), ("a", 1, 1, False), ("a", 5, 5, True), ("c", 6, 6, True), ("d", 1, 1, None)
    )
    found = label_rows(rows, Label("l", table, "y", timedelta(days=2), timedelta(days=1)), day(7))
    assert found.frame.rows() == [("a", day(1), False), ("b", day(1), True)]
    assert (found.immature, found.matures, found.missing) == (2, day(8), 1)


def test_at_the_very_moment_a_truth_is_known() -> None:
    table = labels(Boolean())
    label = Label("l", table, "y", timedelta(days=3))
    rows = history(table, ("a", 1, 1, True))
    assert label_rows(rows, label, day(4)).frame.height == 1
    early = label_rows(rows, label, day(4) - timedelta(microseconds=1))
    assert (early.frame.height, early.immature, early.matures) == (0, 1, day(4))


def test_the_later_known_truth_wins_once_it_is_known() -> None:
    table = labels(Category(("x", "y", "z")))
    rows = history(table, ("a", 1, 9, "y"), ("a", 1, 1, "x"), ("a", 1, 9, "z"))
    label = Label("l", table, "y")
    assert label_rows(rows, label, day(8)).frame["y"].to_list() == ["x"]
    assert label_rows(rows, label, day(9)).frame["y"].to_list() == ["z"]  # equally late: the later ingested


def test_whole_numbers_are_learnt_as_numbers_and_nothing_is_an_answer() -> None:
    table = labels(Integer())
    label = Label("l", table, "y")
    assert label_rows(history(table, ("a", 1, 1, 3)), label, day(2)).frame["y"].to_list() == [3.0]
    nothing = label_rows(history_of([], table), label, day(2))
    assert (nothing.frame.height, nothing.immature, nothing.matures) == (0, 0, None)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.integers(0, 6), st.none() | st.booleans()), max_size=12),
    st.integers(0, 8), st.integers(0, 3),
)  # fmt: skip
def test_against_a_loop_over_rows(given_rows: list[tuple[str, int, int, bool | None]], moment: int, delay: int) -> None:
    table = labels(Boolean(nulls=1.0))
    found = label_rows(history(table, *given_rows), Label("l", table, "y", timedelta(days=delay)), day(moment))
    truth: dict[tuple[str, int], tuple[int, bool | None]] = {}
    for key, event, known, y in given_rows:
        if known <= moment and known >= truth.get((key, event), (-1, None))[0]:
            truth[key, event] = (known, y)
    mature = {at: y for at, (_, y) in truth.items() if at[1] + delay <= moment}
    assert found.frame.rows() == [(key, day(event), y) for (key, event), y in sorted(mature.items()) if y is not None]
    assert found.immature == len(truth) - len(mature)
