"""A snapshot's name says what its rows say, whatever file they came in; and when each row became known."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.tables import AS_OF, rows, visits

from ecluse.core.codec import digest
from ecluse.core.contract import Boolean, Instant, Integer, Number, Table, Text
from ecluse.core.entity import Entity
from ecluse.core.instants import to_micros
from ecluse.data.check import check
from ecluse.data.frame import KNOWN, schema_of
from ecluse.data.freeze import Frozen, freeze, snapshot_digest
from ecluse.data.read import read_rows

GOLDEN = "832aef0d294bc14bc908728685db8e1813f1a26b84a9dcccc89be69c3cfb0e4d"
DAY = timedelta(days=1)
LATER = AS_OF + 10 * DAY


def frozen(
    raw: pl.DataFrame, history: pl.DataFrame | None = None, table: Table | None = None, earlier: tuple[Frozen, ...] = ()
) -> Frozen:
    table = table or visits()
    now = LATER if history is not None else AS_OF
    return freeze(check(raw, table, AS_OF), table, AS_OF, history, now, [each.snapshot for each in earlier])


def test_the_golden_digest() -> None:
    # Written in docs/formats/snapshots.md: changing it orphans every snapshot there is.
    table = Table(
        "t",
        Entity("id"),
        {"n": Number(nulls=1.0), "i": Integer(), "b": Boolean(), "m": Instant(), "s": Text(nulls=1.0)},
    )
    raw = pl.DataFrame(
        {
            "id": ["b", "a"],
            "n": ["1.5", ""],
            "i": ["-2", "3"],
            "b": ["yes", "no"],
            "m": ["2024-01-31", "2024-01-31T12:00:00.000001+01:00"],
            "s": ["é", None],
        }
    )
    checked = check(raw, table, AS_OF)
    assert checked.verdict.passed
    header = (
        '{"as_of":"2024-02-01T00:00:00Z","columns":["__key","__event","n","i","b","m","s"],'
        f'"contract":"{digest(table)}","rows":2,"table":"t"}}'
    )
    as_of, moments = to_micros(AS_OF), (1_706_698_800_000_001, 1_706_659_200_000_000)
    columns = [
        b"\1\1" + struct.pack("<2q", 1, 1) + b"ab",
        b"\1\1" + struct.pack("<2q", as_of, as_of),
        b"\0\1" + struct.pack("<2d", 0.0, 1.5),
        b"\1\1" + struct.pack("<2q", 3, -2),
        b"\1\1" + b"\0\1",
        b"\1\1" + struct.pack("<2q", *moments),
        b"\0\1" + struct.pack("<2q", 0, 2) + "é".encode(),
    ]
    by_hand = hashlib.sha256(header.encode() + b"".join(columns)).hexdigest()
    assert snapshot_digest(checked.frame, table, AS_OF) == by_hand == GOLDEN


@given(st.permutations(range(5)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    raw = rows({}, {"active": ""}, {"paid": None}, {"fee": "-0.0"}, {"user_id": "u1", "at": "2024-01-30"})
    assert frozen(raw).snapshot.digest == frozen(raw[order]).snapshot.digest


def test_csv_and_parquet_of_the_same_rows_are_one_snapshot(tmp_path: Path) -> None:
    raw = rows({}, {"active": "", "note": None}, {"fee": "0", "paid": "0.10"})
    raw.write_csv(tmp_path / "visits.csv")
    checked = check(raw, visits(), AS_OF)
    checked.frame.select(pl.col("__key").alias("user_id"), *visits().columns).write_parquet(tmp_path / "visits.parquet")
    digests = {
        frozen(read_rows(tmp_path / name, visits())).snapshot.digest for name in ("visits.csv", "visits.parquet")
    }
    assert digests == {frozen(raw).snapshot.digest}


@pytest.mark.parametrize(
    "change",
    [
        {"tenure": "4"},
        {"active": ""},
        {"active": "no"},
        {"note": "i"},
        {"note": None},
        {"at": "2024-01-31T00:00:00.000001Z"},
    ],
)
def test_any_other_value_is_another_snapshot(change: dict[str, str | None]) -> None:
    assert frozen(rows(change)).snapshot.digest != frozen(rows({})).snapshot.digest


def test_another_contract_or_as_of_is_another_snapshot() -> None:
    frame = check(rows({}), visits(), AS_OF).frame
    names = {
        snapshot_digest(frame, visits(), AS_OF), snapshot_digest(frame, visits(), LATER),
        snapshot_digest(frame, visits(quarantine=0.5), AS_OF),
    }  # fmt: skip
    assert len(names) == 3


def test_text_cannot_slide_from_one_row_to_the_next() -> None:
    one, other = rows({"note": "ab"}, {"note": "c"}), rows({"note": "a"}, {"note": "bc"})
    assert frozen(one).snapshot.digest != frozen(other).snapshot.digest


def test_new_rows_are_known_from_the_as_of_and_corrections_from_the_ingest() -> None:
    first = frozen(rows({}, {}))
    assert first.frame.schema == schema_of(visits())
    assert first.frame[KNOWN].to_list() == [AS_OF, AS_OF]
    second = frozen(rows({}, {"tenure": "9"}, {}), first.frame)
    assert second.frame[KNOWN].to_list() == [LATER, LATER, AS_OF]
    assert second.snapshot.known_at == LATER


def test_missing_identity_values_are_the_same_row() -> None:
    table = visits(identity=("note",))
    first = frozen(rows({"note": None}), table=table)
    assert frozen(rows({"note": None, "tenure": "9"}), first.frame, table).frame[KNOWN].to_list() == [LATER]


def test_a_declared_availability_says_when_rows_were_known() -> None:
    table = visits(columns={**visits().columns, "seen": Instant()}, available_at="seen")
    raw = rows({"seen": "2024-02-01"}, {"user_id": "u1", "seen": "2024-01-31"}, seen="")
    known = frozen(raw, frozen(raw, table=table).frame, table).frame[KNOWN].to_list()
    assert known == [datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)]


def test_a_correction_that_states_the_old_availability_is_known_from_its_ingest() -> None:
    table = visits(columns={**visits().columns, "seen": Instant()}, available_at="seen")
    seen = datetime(2024, 1, 31, tzinfo=UTC)
    first = frozen(rows({"seen": "2024-01-31"}, {"seen": "2024-01-31"}, seen=""), table=table)
    raw = rows({"seen": "2024-01-31", "tenure": "9"}, {"seen": "2024-01-31"}, seen="")
    second = frozen(raw, first.frame, table)
    assert second.frame[KNOWN].to_list() == [LATER, seen]
    again = freeze(check(raw, table, AS_OF), table, AS_OF, pl.concat([first.frame, second.frame]), LATER + DAY)
    assert again.frame[KNOWN].to_list() == [LATER, seen]  # said before: nothing new is known


def test_a_return_to_earlier_rows_is_a_correction_of_its_own() -> None:
    first, second = frozen(rows({})), frozen(rows({"tenure": "9"}))
    assert frozen(rows({}), first.frame, earlier=(first,)).snapshot.digest == first.snapshot.digest
    back = frozen(rows({}), first.frame, earlier=(first, second))
    assert back.snapshot.digest not in (first.snapshot.digest, second.snapshot.digest)
    again = frozen(rows({}), first.frame, earlier=(first, second, back))
    assert again.snapshot.digest == back.snapshot.digest
