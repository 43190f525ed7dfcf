"""Files of rows as they come: CSV as text, Parquet with its own types. Nothing is interpreted here, so that nothing is lost before the check."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl

from ecluse.core.contract import Table
from ecluse.core.errors import InvalidInput, Unavailable

SUFFIXES = (".csv", ".parquet")


def find_file(folder: Path, table: Table) -> Path | None:
    """The file of a table in a folder (``<table.file>.csv`` or ``.parquet``), or None. Raises InvalidInput when both are there."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{table.file}{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InvalidInput(f"{names} are both there", where=str(folder), cure="keep the one that is meant")
    return found[0] if found else None


def read_rows(path: Path, table: Table) -> pl.DataFrame:
    """Every row of a CSV (all columns text, empty is null) or Parquet file (its own types).

    CSV is UTF-8 with or without a byte order mark, comma separated, quoted with ``"``. Raises InvalidInput when it cannot be read as
    such, Unavailable when it cannot be read at all.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidInput(f"{path.name} is neither CSV nor Parquet", where=str(path), cure="give .csv or .parquet")
    try:
        return _read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        cure = f"write it again as UTF-8 {path.suffix[1:]} with the columns of table {table.name}"
        raise InvalidInput(f"{path.name} cannot be read: {reason}", where=str(path), cure=cure) from None
    except OSError as error:
        raise Unavailable(f"{path.name} cannot be read: {error}", where=str(path), cure="check the disk") from None


def _read_csv(path: Path) -> pl.DataFrame:
    names = _header(path)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"column `{twice[0]}` is there twice", where=str(path), cure="keep one of them")
    if not names:
        raise InvalidInput(f"{path.name} is empty", where=str(path), cure="write a header line and rows")
    return pl.read_csv(path, infer_schema=False, encoding="utf8", glob=False)


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return next(csv.reader(lines), [])
    except UnicodeDecodeError:
        raise InvalidInput(f"{path.name} is not UTF-8", where=str(path), cure="save it as UTF-8") from None
    except csv.Error as error:
        raise InvalidInput(f"{path.name} is not CSV: {error}", where=str(path), cure="save it as CSV") from None
