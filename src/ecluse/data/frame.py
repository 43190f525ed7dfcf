"""The typed table frame: what rows look like from their check on, and what every reader of a snapshot may rely on.

``__key`` String, ``__event`` and ``__known`` Datetime("us", "UTC"), then the declared columns; sorted by key, event, identity, known.
A row *is* its key, event time and identity columns; the history of a table is its snapshots' frames, one after the other as ingested.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ecluse.core.contract import Boolean, Column, Instant, Integer, Number, Table
from ecluse.core.errors import InvalidInput

KEY, EVENT, KNOWN = "__key", "__event", "__known"
REASONS, ROW = "__reasons", "__row"
INSTANT = pl.Datetime("us", "UTC")


def column_dtype(column: Column) -> pl.DataType:
    """The polars type a declared column has in a typed frame.

    >>> column_dtype(Number(min=0))
    Float64
    """
    if isinstance(column, Number):
        return pl.Float64()
    if isinstance(column, Integer):
        return pl.Int64()
    if isinstance(column, Boolean):
        return pl.Boolean()
    return INSTANT if isinstance(column, Instant) else pl.String()


def schema_of(table: Table, *, known: bool = True) -> dict[str, pl.DataType]:
    """Names and types of a table's typed frame, in order; ``known=False`` leaves ``__known`` out (a frame not frozen yet)."""
    times: dict[str, pl.DataType] = {EVENT: INSTANT, KNOWN: INSTANT} if known else {EVENT: INSTANT}
    return {KEY: pl.String(), **times, **{name: column_dtype(each) for name, each in table.columns.items()}}


def identity_of(table: Table) -> list[str]:
    """The columns that say which row it is: a later-known row with the same ones replaces the earlier."""
    return [KEY, EVENT, *table.identity]


def sort_columns(table: Table) -> list[str]:
    """The order of a typed frame."""
    return [*identity_of(table), KNOWN]


def history_of(frames: Sequence[pl.DataFrame], table: Table) -> pl.DataFrame:
    """The frames of a table's snapshots, oldest ingest first, as one frame of today's contract.

    A column declared since is missing in older rows; one no longer declared is left out. Raises InvalidInput when a type has changed.
    """
    schema = schema_of(table)
    return pl.concat([pl.DataFrame(schema=schema), *(_conform(frame, table, schema) for frame in frames)])


def _conform(frame: pl.DataFrame, table: Table, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    for name, dtype in schema.items():
        if name in frame.columns and frame.schema[name] != dtype:
            raise InvalidInput(
                f"column `{name}` was {frame.schema[name]} when it was ingested and is declared {dtype} now",
                where=f"table {table.name}",
                cure="declare the new type under a new column name, or ingest the table's history again",
            )
    return frame.select(
        pl.col(name) if name in frame.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    )
