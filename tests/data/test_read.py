"""Files as they come: text stays text, empty is null, and what is no CSV or Parquet says so."""

from pathlib import Path

import polars as pl
import pytest
from tests.data.tables import visits

from ecluse.core.errors import InvalidInput
from ecluse.data.read import find_file, read_rows


def test_csv_is_text_and_empty_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_bytes(b'\xef\xbb\xbfuser_id,tenure,note\n0123,,"a, ""b"""\n7,1e3,"two\nlines"\n')
    assert read_rows(path, visits()).to_dicts() == [
        {"user_id": "0123", "tenure": None, "note": 'a, "b"'},
        {"user_id": "7", "tenure": "1e3", "note": "two\nlines"},
    ]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_text("user_id,tenure\n")
    assert read_rows(path, visits()).shape == (0, 2)


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": [1, 2], "tenure": [1.0, None]})
    frame.write_parquet(tmp_path / "visits.parquet")
    assert read_rows(tmp_path / "visits.parquet", visits()).equals(frame)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("visits.csv", b"", "is empty"),
        ("visits.csv", b"user_id,note\n1,\xff\xfe\n", "visits.csv"),
        ("visits.csv", b"user_id,\xff\n", "not UTF-8"),
        ("visits.csv", b"user_id,a,a\n1,2,3\n", "`a` is there twice"),
        ("visits.csv", b"user_id,a\n1,2,3\n", "cannot be read"),
        ("visits.parquet", b"PAR1 no", "cannot be read"),
        ("visits.xlsx", b"", "neither CSV nor Parquet"),
    ],
)
def test_what_cannot_be_read_says_which_file(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=says) as caught:
        read_rows(tmp_path / name, visits())
    assert name in caught.value.where
    assert caught.value.cure


def test_a_file_is_found_by_the_tables_stem(tmp_path: Path) -> None:
    table = visits(file="visits_30d")
    assert find_file(tmp_path, table) is None
    (tmp_path / "visits_30d.parquet").touch()
    assert find_file(tmp_path, table) == tmp_path / "visits_30d.parquet"
    (tmp_path / "visits_30d.csv").touch()
    with pytest.raises(InvalidInput, match="both there"):
        find_file(tmp_path, table)
