"""Checked rows frozen as a snapshot: named by a digest over what the rows say, stamped with when each became known.

The digest (docs/formats/snapshots.md) is SHA-256 over a canonical header and, column by column, plain little-endian bytes of the sorted
rows: never over Parquet, whose bytes change with the library, nor over a library's own hash of a frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from ecluse.core.codec import canonical, digest
from ecluse.core.contract import Table
from ecluse.core.snapshot import Snapshot
from ecluse.data.check import Checked
from ecluse.data.frame import EVENT, INSTANT, KEY, KNOWN, identity_of, schema_of, sort_columns


@dataclass(frozen=True)
class Frozen:
    """A snapshot's record and its rows (the typed frame)."""

    snapshot: Snapshot
    frame: pl.DataFrame


def snapshot_digest(frame: pl.DataFrame, table: Table, as_of: datetime) -> str:
    """SHA-256 (hex) over as-of, contract and typed rows; the same for any order of rows and any file format. O(n log n)."""
    columns = [KEY, EVENT, *table.columns]
    order = [*identity_of(table), *([table.available_at] if table.available_at else [])]
    rows = frame.select(columns).sort(order, nulls_last=False)
    header = {"table": table.name, "as_of": as_of, "contract": digest(table), "columns": columns, "rows": rows.height}
    sha = hashlib.sha256(canonical(header))
    for name in columns:
        for part in _column_bytes(rows[name]):
            sha.update(part)
    return sha.hexdigest()


def freeze(
    checked: Checked,
    table: Table,
    as_of: datetime,
    history: pl.DataFrame | None,
    now: datetime,
    earlier: Sequence[Snapshot] = (),
) -> Frozen:
    """The snapshot of checked rows. ``history`` is the table's typed history, ``now`` the moment of this ingest, ``earlier`` the table's
    snapshots of the same as-of, oldest first.

    A row is known from its availability column, unless a row of the same identity and availability said something else before: then from
    ``now``. Without such a column it is known from ``as_of`` when it is new, from ``now`` when it corrects one in the history. Rows that
    return to what an earlier snapshot of the same as-of said, after another was taken, are a correction too and get a digest of their own;
    the newest snapshot's own rows give its own digest again.
    """
    name = _name(snapshot_digest(checked.frame, table, as_of), [each.digest for each in earlier])
    frame = _known(checked.frame, table, as_of, history, now).select(list(schema_of(table)))
    frame = frame.sort(sort_columns(table), nulls_last=False, maintain_order=True)
    first = frame[KNOWN].min() or as_of
    assert isinstance(first, datetime)
    rows, bad = frame.height, checked.quarantined.height
    snapshot = Snapshot(table.name, name, as_of, now, first, rows, bad, digest(table))
    return Frozen(snapshot, frame)


def _name(rows: str, earlier: list[str]) -> str:
    if rows not in earlier or rows == earlier[-1]:
        return rows
    if len(earlier) > 1 and earlier[-1] == _returned(rows, earlier[-2]):
        return earlier[-1]
    return _returned(rows, earlier[-1])


def _returned(rows: str, after: str) -> str:
    return digest({"rows": rows, "after": after})


def _known(
    frame: pl.DataFrame, table: Table, as_of: datetime, history: pl.DataFrame | None, now: datetime
) -> pl.DataFrame:
    stated = pl.lit(as_of).cast(INSTANT) if table.available_at is None else pl.col(table.available_at)
    if history is None or history.is_empty():
        return frame.with_columns(stated.alias(KNOWN))
    identity = identity_of(table)
    if table.available_at is not None:
        return _restated(frame, table, [*identity, table.available_at], history, now)
    seen = history.select(identity).unique().with_columns(pl.lit(now).cast(INSTANT).alias(KNOWN))
    joined = frame.join(seen, on=identity, how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(pl.col(KNOWN).fill_null(pl.lit(as_of).cast(INSTANT)))


def _restated(frame: pl.DataFrame, table: Table, row: list[str], history: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """``__known`` where a column states it. ``row`` names one telling of a row: told again with other values, it is known from ``now``."""
    newest = history.sort(KNOWN, maintain_order=True).unique(row, keep="last", maintain_order=True)
    said = [KEY, EVENT, *table.columns]
    again = newest.select(*said, pl.col(KNOWN).alias("__again"))
    seen = newest.select(*dict.fromkeys(row), pl.lit(now).cast(INSTANT).alias("__now"))
    joined = frame.join(again, on=said, how="left", nulls_equal=True, maintain_order="left").join(
        seen, on=list(dict.fromkeys(row)), how="left", nulls_equal=True, maintain_order="left"
    )
    known = pl.coalesce("__again", "__now", str(table.available_at)).alias(KNOWN)
    return joined.with_columns(known).drop("__again", "__now")


def _column_bytes(column: pl.Series) -> tuple[bytes, ...]:
    """One byte per row (1: there is a value), then the values, missing ones as zero: float64, int64 (instants as microseconds), a byte per
    Boolean, or for text the int64 lengths in bytes and the UTF-8 itself.
    """
    valid = column.is_not_null().to_numpy().astype("u1").tobytes()
    if column.dtype == pl.String:
        text = column.fill_null("")
        return valid, text.str.len_bytes().to_numpy().astype("<i8").tobytes(), "".join(text).encode()
    if column.dtype == pl.Boolean:
        return valid, column.fill_null(value=False).to_numpy().astype("u1").tobytes()
    if column.dtype == pl.Float64:
        return valid, column.fill_null(0.0).to_numpy().astype("<f8").tobytes()
    return valid, np.asarray(column.to_physical().fill_null(0).to_numpy()).astype("<i8").tobytes()
