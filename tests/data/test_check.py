"""The contract of rows: every way a row or a table can be wrong, each with its own name and count."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.tables import AS_OF, USER, rows, visits

from ecluse.core.contract import Boolean, Category, Instant, Integer, Number
from ecluse.core.entity import Entity, canonical_key
from ecluse.core.errors import InvalidInput
from ecluse.core.instants import from_micros, parse_instant
from ecluse.core.verdict import Finding
from ecluse.data.check import Checked, check, keys_of
from ecluse.data.frame import KEY, schema_of


def failed(checked: Checked) -> dict[tuple[str, str], Finding]:
    return {(finding.check, finding.subject): finding for finding in checked.verdict.failed}


def test_good_rows_come_out_typed() -> None:
    table = visits()
    checked = check(rows({}), table, AS_OF)
    assert checked.verdict.passed
    assert checked.frame.schema == schema_of(table, known=False)
    assert checked.frame.to_dicts() == [
        {
            "__key": "u1", "__event": datetime(2024, 1, 31, tzinfo=UTC), "at": datetime(2024, 1, 31, tzinfo=UTC),
            "tenure": 3, "fee": 9.5, "paid": 10.0, "active": True, "plan": "Gold", "note": "hi",
        }
    ]  # fmt: skip
    assert checked.quarantined.is_empty()
    assert checked.counts == {}


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"tenure": "-1"}, ["tenure: below 0"]),
        ({"tenure": "601"}, ["tenure: above 600"]),
        ({"tenure": "three"}, ["tenure: wrong type"]),
        ({"tenure": "3.5"}, ["tenure: wrong type"]),
        ({"tenure": "99999999999999999999"}, ["tenure: wrong type"]),
        ({"tenure": None}, ["tenure: missing"]),
        ({"tenure": "  "}, ["tenure: missing"]),
        ({"fee": "NaN"}, ["fee: not a finite number"]),
        ({"fee": "-inf"}, ["fee: not a finite number"]),
        ({"fee": "1e999"}, ["fee: not a finite number"]),
        ({"fee": "9,5"}, ["fee: wrong type"]),
        ({"active": "maybe"}, ["active: wrong type"]),
        ({"active": "2"}, ["active: wrong type"]),
        ({"plan": "Platinum"}, ["plan: unknown category"]),
        ({"plan": "gold"}, ["plan: unknown category"]),
        ({"note": "longer"}, ["note: longer than 5"]),
        ({"at": "2024-01-31T12:00:00"}, ["at: naive timestamp"]),
        ({"at": "2024-02-01T00:00:01Z"}, ["at: from the future"]),
        ({"at": "31.01.2024"}, ["at: wrong type"]),
        ({"at": "2024-02-30"}, ["at: wrong type"]),
        ({"at": "2024-01-31T10:00:00+24:00"}, ["at: wrong type"]),
        ({"at": None}, ["at: missing"]),
        ({"paid": "9"}, ["rule paid_covers_fee"]),
        ({"user_id": ""}, ["user_id: bad key"]),
        ({"user_id": "x" * 513}, ["user_id: bad key"]),
        ({"user_id": "a\x00b"}, ["user_id: bad key"]),
        ({"tenure": "-1", "plan": "None"}, ["tenure: below 0", "plan: unknown category"]),
    ],
)
def test_a_bad_row_goes_to_quarantine_with_its_reasons(change: dict[str, str | None], reasons: list[str]) -> None:
    checked = check(rows({}, change), visits(), AS_OF)
    assert checked.frame[KEY].to_list() == ["u1"]
    assert checked.counts == dict.fromkeys(reasons, 1)
    (bad,) = checked.quarantined.to_dicts()
    assert (bad["__row"], bad["__reasons"]) == (2, reasons)
    assert {name: bad[name] for name in change} == change  # as it came


@pytest.mark.parametrize("written", ["", " ", None])
def test_an_empty_boolean_is_missing_never_true(written: str | None) -> None:
    checked = check(rows({}, {"active": written}), visits(), AS_OF)
    assert checked.frame["active"].to_list() == [True, None]


@pytest.mark.parametrize(("written", "read"), [("yes", True), ("TRUE", True), ("1", True), ("no", False), ("0", False)])
def test_booleans_written_as_text(written: str, read: bool) -> None:
    assert check(rows({"active": written}), visits(), AS_OF).frame["active"].to_list() == [read]


def test_a_missing_value_passes_a_rule() -> None:
    assert check(rows({}, {"paid": None}), visits(), AS_OF).frame["paid"].to_list() == [10.0, None]


def test_exact_copies_leave_one_and_contradictions_leave_none() -> None:
    copy, contradiction = {"user_id": "u1"}, {"user_id": "u2", "tenure": "4"}
    checked = check(rows({}, {}, copy, contradiction, {}), visits(), AS_OF)
    assert checked.frame[KEY].to_list() == ["u1", "u5"]
    assert checked.counts == {"user_id: contradicts another row": 2, "user_id: duplicate": 1}
    assert checked.quarantined["__row"].to_list() == [2, 3, 4]


def test_identity_columns_tell_rows_of_one_instant_apart() -> None:
    same = {"user_id": "u1"}
    assert check(rows(same, {**same, "note": "b"}), visits(identity=("note",)), AS_OF).frame.height == 2


def test_rows_known_at_different_moments_are_corrections_not_copies() -> None:
    table = visits(columns={**visits().columns, "seen": Instant()}, available_at="seen")
    twice = rows({"seen": "2024-01-31"}, {"user_id": "u1", "seen": "2024-02-01"}, {"seen": "2024-02-02"}, seen="")
    checked = check(twice, table, AS_OF)
    assert checked.frame[KEY].to_list() == ["u1", "u1"]
    assert checked.counts == {"seen: from the future": 1}


def test_a_reference_must_be_known() -> None:
    table = visits(references=("users",))
    checked = check(rows({}, {}), table, AS_OF, references={"users": pl.Series(["u2"])})
    assert checked.counts == {"user_id: unknown in users": 1}
    assert check(rows({}), table, AS_OF).counts == {"user_id: unknown in users": 1}


def test_the_quarantine_share_decides() -> None:
    raw = rows(*[{}] * 98, {"tenure": "-1"}, {"tenure": "x"})
    assert check(raw, visits(quarantine=0.02), AS_OF).verdict.passed
    refused = check(raw, visits(quarantine=0.01), AS_OF)
    finding = failed(refused)["quarantine", ""]
    assert (finding.measured, finding.limit) == (0.02, 0.01)
    assert "2 of 100 rows" in finding.why
    assert "tenure: below 0" in finding.why
    assert refused.frame.height == 98


def test_a_missing_column_stops_before_any_row_is_read() -> None:
    checked = check(rows({}).drop("tenure", "plan"), visits(), AS_OF)
    assert set(failed(checked)) == {("column", "tenure"), ("column", "plan")}
    assert checked.frame.is_empty()
    assert checked.frame.schema == schema_of(visits(), known=False)


def test_an_extra_column_is_named_and_left_out() -> None:
    checked = check(rows({}, extra="1"), visits(), AS_OF)
    assert checked.verdict.passed
    assert any("extra" in finding.why for finding in checked.verdict.findings)
    assert "extra" not in checked.frame.columns


def test_a_column_of_lists_is_no_column_of_values() -> None:
    raw = rows({}).with_columns(fee=pl.Series([[1.0]]))
    assert set(failed(check(raw, visits(), AS_OF))) == {("column", "fee")}


@pytest.mark.parametrize(("count", "volume", "ok"), [(0, (1, None), False), (0, (0, 3), True), (4, (1, 3), False)])
def test_volume(count: int, volume: tuple[int, int | None], ok: bool) -> None:
    checked = check(rows(*[{}] * count), visits(rows=volume), AS_OF)
    assert checked.verdict.passed is ok
    assert {name for name, _ in failed(checked)} == (set() if ok else {"volume"})


def test_freshness_is_the_age_of_the_newest_row() -> None:
    raw = rows({"at": "2024-01-01"}, {"at": "2024-01-20"})
    assert check(raw, visits(freshness=timedelta(days=12)), AS_OF).verdict.passed
    assert (
        failed(check(raw, visits(freshness=timedelta(days=11)), AS_OF))["freshness", "age of the newest row"].measured
        == 12
    )


def test_the_missing_share_of_a_column() -> None:
    half = rows({}, {"paid": None})
    assert check(half, visits(), AS_OF).verdict.passed
    more = rows({}, {"paid": None}, {"paid": ""})
    assert failed(check(more, visits(), AS_OF))["missing", "paid"].measured == pytest.approx(2 / 3)


def test_cardinality_of_an_open_category() -> None:
    table = visits(columns={**visits().columns, "plan": Category(max_distinct=2)})
    assert check(rows({"plan": "a"}, {"plan": "b"}), table, AS_OF).verdict.passed
    many = rows({"plan": "a"}, {"plan": "b"}, {"plan": "c"})
    assert failed(check(many, table, AS_OF))["cardinality", "plan"].measured == 3


def test_everything_bad_is_refused_not_a_crash() -> None:
    checked = check(rows({"user_id": None}, {"at": "x"}), visits(quarantine=0.5, freshness=timedelta(1)), AS_OF)
    assert ("quarantine", "") in failed(checked)
    assert checked.frame.is_empty()


def test_parquet_types_are_read_as_declared() -> None:
    raw = pl.DataFrame(
        {
            "user_id": pl.Series([7], dtype=pl.Int32), "at": pl.Series([datetime(2024, 1, 31)]).dt.date(),  # noqa: DTZ001
            "tenure": [3.0], "fee": pl.Series([9], dtype=pl.UInt8), "paid": pl.Series(["10.5"]).cast(pl.Decimal(8, 2)),
            "active": [1.0], "plan": pl.Series(["Gold"], dtype=pl.Categorical), "note": pl.Series([None]),
        }
    )  # fmt: skip
    checked = check(raw, visits(), AS_OF)
    assert checked.counts == {}
    assert checked.frame[KEY].item() == "7"
    assert checked.frame.select("tenure", "fee", "paid", "active", "plan", "note").row(0) == (
        3,
        9.0,
        10.5,
        True,
        "Gold",
        None,
    )


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("tenure", pl.Series([3.5]), "wrong type"), ("tenure", pl.Series([True]), "wrong type"),
        ("tenure", pl.Series([2**63], dtype=pl.UInt64), "wrong type"), ("fee", pl.Series([math.nan]), "not a finite number"),
        ("fee", pl.Series([math.inf]), "not a finite number"), ("fee", pl.Series([True]), "wrong type"),
        ("active", pl.Series([2]), "wrong type"), ("plan", pl.Series([1.5]), "wrong type"),
        ("at", pl.Series([datetime(2024, 1, 1)]), "naive timestamp"), ("at", pl.Series([20240101]), "wrong type"),  # noqa: DTZ001
        ("user_id", pl.Series([1.0]), "bad key"),
    ],
)  # fmt: skip
def test_parquet_of_other_types_is_refused_row_by_row(column: str, value: pl.Series, reason: str) -> None:
    checked = check(rows({}).with_columns(value.alias(column)), visits(), AS_OF)
    assert checked.counts == {f"{column}: {reason}": 1}


def test_a_zone_gives_naive_timestamps_their_instant() -> None:
    raw = rows(
        {"at": "2024-01-31T12:00:00"}, {"at": "2024-01-31"}, {"at": "2023-03-26T02:30:00"}, {"at": "2023-10-29 02:30"}
    )
    checked = check(raw, visits(zone="Europe/Paris"), AS_OF)
    hours = [event.hour for event in checked.frame["__event"]]
    assert hours == [11, 0, 0]  # the skipped hour is no instant, the doubled one its first
    assert checked.counts == {"at: wrong type": 1}


moments = st.integers(-2_000_000_000_000_000, 7_000_000_000_000_000).map(from_micros)
offsets = st.sampled_from(["Z", "+00:00", "+05:30", "-0800", "+14:00"])


@given(st.lists(st.tuples(moments, offsets, st.sampled_from(["T", " "]), st.integers(0, 3)), min_size=1, max_size=20))
def test_instants_are_read_as_core_reads_them(parts: list[tuple[datetime, str, str, int]]) -> None:
    forms = ["%Y-%m-%d{}%H:%M:%S.%f", "%Y-%m-%d{}%H:%M:%S", "%Y-%m-%d{}%H:%M", "%Y-%m-%d"]
    texts = [
        moment.strftime(forms[form].format(between)) + (offset if form < 3 else "")
        for moment, offset, between, form in parts
    ]
    raw = pl.DataFrame({"user_id": [str(number) for number in range(len(texts))], "at": texts})
    table = visits(columns={"at": Instant()}, rules=(), event_time="at")
    checked = check(raw, table, datetime(2300, 1, 1, tzinfo=UTC))
    assert checked.frame["at"].to_list() == [parse_instant(text) for text in texts]


# Python's strip() takes the four separators away, polars' does not: whether such a key is blank is nobody's question.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00\x1c\x1d\x1e\x1f"), max_size=6)


@given(st.lists(st.tuples(texts, texts), max_size=20))
def test_composite_keys_are_the_canonical_ones(keys: list[tuple[str, str]]) -> None:
    entity = Entity("order_no", columns=("shop", "no"))
    table = visits(key=entity, columns={"fee": Number()}, event_time="as_of", rules=())
    raw = pl.DataFrame(
        {"shop": [a for a, _ in keys], "no": [b for _, b in keys]}, schema={"shop": pl.String, "no": pl.String}
    )
    wanted = {canonical_key(entity, key) for key in keys if all(part.strip() for part in key)}
    assert set(keys_of(raw, table)) == wanted


@given(
    st.lists(
        st.one_of(st.integers().map(str), st.from_regex(r"[+-]?0{0,3}[0-9]{1,20}|[a-z ]{0,3}|\.5", fullmatch=True))
    )
)
def test_integer_keys_are_the_canonical_ones(written: list[str]) -> None:
    entity = Entity("user_id", kind="integer")
    table = visits(key=entity, columns={"fee": Number()}, event_time="as_of", rules=())
    keys = keys_of(pl.DataFrame({"user_id": written}, schema={"user_id": pl.String}), table)

    def canonical(value: str) -> str | None:
        try:
            return canonical_key(entity, value)
        except InvalidInput:
            return None

    assert set(keys) == {canonical(value) for value in written} - {None}


@given(st.permutations(range(8)))
def test_the_answer_does_not_depend_on_the_order_of_the_file(order: list[int]) -> None:
    changes: list[dict[str, str | None]] = [
        {}, {}, {"user_id": "u1"}, {"user_id": "u2", "tenure": "4"}, {"plan": "x"}, {"active": ""}, {"at": "x"}, {},
    ]  # fmt: skip
    raw = rows(*changes)
    first, then = check(raw, visits(), AS_OF), check(raw[order], visits(), AS_OF)
    assert first.counts == then.counts
    assert first.frame.sort(KEY).equals(then.frame.sort(KEY))


def test_unusual_types_of_a_whole_table() -> None:
    raw: Any = pl.DataFrame({"user_id": ["a", "b"], "n": [1, 2], "b": [True, None]})
    table = visits(columns={"n": Integer(), "b": Boolean(nulls=0.5)}, event_time="as_of", rules=(), key=USER)
    checked = check(raw, table, AS_OF)
    assert checked.frame["__event"].to_list() == [AS_OF, AS_OF]
