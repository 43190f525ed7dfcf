"""Time travel against a naive oracle: corrections, ties, equal instants, identity, windows, time-to-live, missing values."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.oracle import answer

from ecluse.core.contract import Boolean, Category, Column, Instant, Integer, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.view import Aggregation, FeatureView, count, distinct, highest, last, lowest, mean, total
from ecluse.features import as_of
from ecluse.features.as_of import known_keys, moment_frame, view_as_of

USER = Entity("user")
START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS: dict[str, Column] = {
    "amount": Number(nulls=1),
    "items": Integer(nulls=1),
    "plan": Category(nulls=1),
    "active": Boolean(nulls=1),
    "moment": Instant(nulls=1),
    "order": Integer(nulls=1),
}
INSTANT = pl.Datetime("us", "UTC")
SCHEMA = {
    "__key": pl.String(),
    "__event": INSTANT,
    "__known": INSTANT,
    "amount": pl.Float64(),
    "items": pl.Int64(),
    "plan": pl.String(),
    "active": pl.Boolean(),
    "moment": INSTANT,
    "order": pl.Int64(),
}
FEATURES = {
    "amount_last": last("amount"),
    "items_last": last("items"),
    "plan_last": last("plan"),
    "active_last": last("active"),
    "moment_last": last("moment"),
    "plan_recent": Aggregation("last", "plan", timedelta(hours=3)),
    "rows": count(over="3h"),
    "rows_ever": Aggregation("count"),
    "amounts": count("amount", over="3h"),
    "amount_total": total("amount", over="3h"),
    "amount_total_ever": Aggregation("total", "amount"),
    "items_total": total("items", over="5h"),
    "amount_mean": mean("amount", over="3h"),
    "amount_low": lowest("amount", over="3h"),
    "items_high": highest("items", over="5h"),
    "plans": distinct("plan", over="5h"),
    "amounts_distinct": distinct("amount", over="3h"),
    "plans_ever": Aggregation("distinct", "plan"),
}


def view_of(*, ttl: timedelta | None = None, identity: tuple[str, ...] = ()) -> FeatureView:
    return FeatureView("usage", Table("usage", USER, COLUMNS, identity=identity), FEATURES, ttl=ttl)


def hours(value: int) -> datetime:
    return START + timedelta(hours=value)


moments = st.integers(0, 12).map(hours)
quarters = st.none() | st.integers(-8, 8).map(lambda n: n / 4)  # exact in binary: sums do not depend on their order
rows = st.fixed_dictionaries(
    {
        "__key": st.sampled_from("abc"),
        "__event": moments,
        "__known": moments,
        "amount": quarters,
        "items": st.none() | st.integers(-3, 3),
        "plan": st.none() | st.sampled_from(["Basic", "Gold", "é"]),
        "active": st.none() | st.booleans(),
        "moment": st.none() | moments,
        "order": st.none() | st.integers(0, 2),
    }
)
tidy_rows = st.builds(lambda row: {**row, "__known": row["__event"] + timedelta(hours=1)}, rows)
histories = st.lists(rows, max_size=25) | st.lists(
    tidy_rows, max_size=25, unique_by=lambda row: (row["__key"], row["__event"])
)
questions = st.lists(st.tuples(st.sampled_from("abcd"), moments), max_size=12)
ttls = st.none() | st.sampled_from([timedelta(0), timedelta(hours=2), timedelta(hours=4)])
identities = st.sampled_from([(), ("order",), ("plan", "order")])


def frame(history: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(history, schema=SCHEMA, orient="row")


def asks_frame(asks: list[tuple[str, datetime]]) -> pl.DataFrame:
    return pl.DataFrame(asks, schema={"__key": pl.String(), "__at": INSTANT}, orient="row")


def assert_as_oracle(history: list[dict[str, Any]], view: FeatureView, asks: list[tuple[str, datetime]]) -> None:
    got = view_as_of(frame(history), view, asks_frame(asks))
    assert got.columns == [*view.features, "__event"]
    assert got.height == len(asks)
    for row, (key, at) in zip(got.to_dicts(), asks, strict=True):
        expected = answer(history, view, key, at)
        assert row == {**expected.values, "__event": expected.event}, (key, at)


@settings(max_examples=max(300, settings().max_examples))
@given(histories, questions, ttls, identities)
def test_every_aggregation_is_what_a_loop_over_rows_says(
    history: list[dict[str, Any]], asks: list[tuple[str, datetime]], ttl: timedelta | None, identity: tuple[str, ...]
) -> None:
    assert_as_oracle(history, view_of(ttl=ttl, identity=identity), asks)


@settings(max_examples=max(60, settings().max_examples))
@given(histories, questions, identities)
def test_small_batches_give_the_same(
    history: list[dict[str, Any]], asks: list[tuple[str, datetime]], identity: tuple[str, ...]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(as_of, "_PAIRS", 2)
        assert_as_oracle(history, view_of(identity=identity), asks)


@settings(max_examples=max(100, settings().max_examples))
@given(st.lists(st.lists(rows, max_size=8), max_size=4), questions, identities)
def test_the_order_of_rows_within_an_ingest_does_not_matter(
    ingests: list[list[dict[str, Any]]], asks: list[tuple[str, datetime]], identity: tuple[str, ...]
) -> None:
    view = view_of(identity=identity)
    # an ingest holds each row once (duplicates are quarantined)
    unique = [list({_name(row, identity): row for row in ingest}.values()) for ingest in ingests]
    one = [row for ingest in unique for row in ingest]
    other = [row for ingest in unique for row in reversed(ingest)]
    assert view_as_of(frame(one), view, asks_frame(asks)).equals(view_as_of(frame(other), view, asks_frame(asks)))


def _name(row: dict[str, Any], identity: tuple[str, ...]) -> tuple[Any, ...]:
    return (row["__key"], row["__event"], row["__known"], *(row[column] for column in identity))


@settings(max_examples=max(100, settings().max_examples))
@given(histories, st.lists(rows, max_size=8), questions)
def test_what_becomes_known_later_changes_no_earlier_answer(
    history: list[dict[str, Any]], late: list[dict[str, Any]], asks: list[tuple[str, datetime]]
) -> None:
    view = view_of()
    later = [{**row, "__known": row["__known"] + timedelta(days=1)} for row in late]
    before = view_as_of(frame(history), view, asks_frame(asks))
    assert view_as_of(frame(history + later), view, asks_frame(asks)).equals(before)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.integers(0, 29))
def test_sums_are_the_same_double_whatever_came_before_or_is_corrected_after(amounts: list[float], cut: int) -> None:
    def build(values: list[float], shift: int) -> list[dict[str, Any]]:
        blank = dict.fromkeys(SCHEMA)
        return [
            {**blank, "__key": "a", "__event": hours(shift + n), "__known": hours(shift + n), "amount": value}
            for n, value in enumerate(values)
        ]

    view = FeatureView("v", Table("v", USER, COLUMNS), {"sum": total("amount", over="30h")})
    asks = asks_frame([("a", hours(100 + len(amounts)))])
    window = build(amounts, 100)
    alone = view_as_of(frame(window), view, asks)
    older = build([1e15, 0.1, 3.3], 1)
    correction = [{**older[cut % 3], "__known": hours(200), "amount": 7.0}]
    assert view_as_of(frame(older + window), view, asks).equals(alone)
    assert view_as_of(frame(older + window + correction), view, asks).equals(alone)


def test_a_late_correction_of_an_old_event_does_not_win_over_a_newer_one() -> None:
    blank = dict.fromkeys(SCHEMA)
    history = [
        {**blank, "__key": "a", "__event": hours(1), "__known": hours(1), "plan": "Basic"},
        {**blank, "__key": "a", "__event": hours(2), "__known": hours(2), "plan": "Gold"},
        {**blank, "__key": "a", "__event": hours(1), "__known": hours(3), "plan": "Corrected"},
    ]
    got = view_as_of(frame(history), view_of(), asks_frame([("a", hours(4)), ("a", hours(1)), ("a", hours(2))]))
    assert got["plan_last"].to_list() == ["Gold", "Basic", "Gold"]


def test_types_do_not_depend_on_there_being_rows() -> None:
    empty = view_as_of(frame([]), view_of(), asks_frame([("a", hours(1))]))
    some = view_as_of(frame([]), view_of(), asks_frame([]))
    assert dict(empty.schema) == dict(some.schema)
    assert empty.schema["amount_last"] == pl.Float64
    assert empty.schema["items_last"] == pl.Float64
    assert empty.schema["rows"] == pl.Float64
    assert empty.row(0, named=True)["rows"] == 0.0
    assert empty.row(0, named=True)["plan_last"] is None


def test_keys_known_at_a_moment() -> None:
    blank = dict.fromkeys(SCHEMA)
    history = [
        {**blank, "__key": key, "__event": hours(0), "__known": hours(known)}
        for key, known in [("b", 1), ("a", 2), ("b", 2), ("c", 3)]
    ]
    keys = known_keys(frame(history), hours(2))
    assert keys.to_list() == ["a", "b"]
    assert moment_frame(keys, hours(2)).rows() == [("a", hours(2)), ("b", hours(2))]
