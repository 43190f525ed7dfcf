"""Raw values to typed ones: text or whatever a Parquet file holds, read as the declared kind or marked as wrong. Pure polars expressions.

Blank text is missing for every kind, never a value (never true). NaN and infinity are no numbers. Nothing is rounded or guessed: what
cannot be read exactly is marked, and the row goes to quarantine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl
from polars.datatypes import DataType

from ecluse.core.contract import Boolean, Column, Instant, Integer, Number
from ecluse.core.entity import MAX_KEY_BYTES, Entity
from ecluse.data.frame import INSTANT

_EXACT = 2.0**53
_YEARS = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
_TRUE, _FALSE = ["true", "1", "1.0", "yes"], ["false", "0", "0.0", "no"]
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_LOCAL = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_OFFSET = r"(Z|z|[+-][0-9]{2}:?[0-9]{2})$"
RAW = "raw:"


@dataclass(frozen=True)
class Parsed:
    """``value``: the typed value (null where missing or wrong; a Number may still be NaN or infinite) out of column ``raw:<name>``.
    ``wrong``, by label: true where the row is bad, out of the raw column and ``<name>``, the value once it has been computed.
    """

    value: pl.Expr
    wrong: dict[str, pl.Expr] = field(default_factory=dict)


def can_hold(dtype: DataType) -> bool:
    """Whether values of a raw column can be read at all: text, numbers, booleans, dates and moments; not lists, structs or bytes."""
    return dtype.is_numeric() or dtype in (
        pl.String,
        pl.Boolean,
        pl.Categorical,
        pl.Enum,
        pl.Date,
        pl.Datetime,
        pl.Null,
    )


def parse_column(name: str, column: Column, dtype: DataType, zone: str | None) -> Parsed:
    """How to read raw column ``name`` of type ``dtype`` as ``column``; ``zone`` is the table's, for naive timestamps."""
    raw, dtype = _text_or_raw(name, dtype)
    wrong = {"wrong type": raw.is_not_null() & pl.col(name).is_null()}
    if isinstance(column, Number):
        return Parsed(_number(raw, dtype), wrong | {"not a finite number": ~pl.col(name).is_finite()})
    if isinstance(column, Integer):
        return Parsed(_integer(raw, dtype), wrong)
    if isinstance(column, Boolean):
        return Parsed(_boolean(raw, dtype), wrong)
    if isinstance(column, Instant):
        naive = _naive(raw, dtype) if zone is None else pl.lit(value=False)
        value = _instant_text(raw, zone) if dtype == pl.String else _instant(raw, dtype, zone)
        value = pl.when(value.is_between(*_YEARS)).then(value)  # what a datetime can hold, as core reads them
        return Parsed(value, {"wrong type": wrong["wrong type"] & ~naive, "naive timestamp": naive})
    return Parsed(_text(raw, dtype), wrong)


def parse_key(entity: Entity, schema: dict[str, DataType]) -> Parsed:
    """How to read the canonical key out of the raw key columns; equal to ``core.entity.canonical_key`` row by row."""
    parts = [_key_part(name, entity, schema[name]) for name in entity.columns]
    wrong = {"bad key": pl.any_horizontal(part.is_null() for part in parts)}
    if len(parts) == 1:
        return Parsed(parts[0], wrong)
    quoted = [part.map_batches(_json_text, return_dtype=pl.String()) for part in parts]
    return Parsed(pl.concat_str([pl.lit("["), pl.concat_str(quoted, separator=","), pl.lit("]")]), wrong)


def blank(name: str, dtype: DataType) -> pl.Expr:
    """True where raw column ``name`` holds nothing."""
    return _text_or_raw(name, dtype)[0].is_null()


def _text_or_raw(name: str, dtype: DataType) -> tuple[pl.Expr, DataType]:
    raw = pl.col(RAW + name)
    if dtype in (pl.Categorical, pl.Enum, pl.Null):
        raw, dtype = raw.cast(pl.String), pl.String()
    if dtype == pl.String:
        raw = pl.when(raw.str.strip_chars() != "").then(raw)
    return raw, dtype


def _never() -> pl.Expr:
    return pl.lit(None)


def _number(raw: pl.Expr, dtype: DataType) -> pl.Expr:
    if dtype == pl.String:
        value = raw.str.strip_chars().cast(pl.Float64, strict=False)
    elif dtype.is_numeric():
        value = raw.cast(pl.Float64, strict=False)
    else:
        value = _never().cast(pl.Float64)
    return value + 0.0  # -0.0 becomes 0.0: one number, one digest


def _integer(raw: pl.Expr, dtype: DataType) -> pl.Expr:
    if dtype == pl.String:
        text = raw.str.strip_chars()
        return pl.coalesce(text.cast(pl.Int64, strict=False), _whole(text.cast(pl.Float64, strict=False)))
    if dtype.is_integer():
        return raw.cast(pl.Int64, strict=False)
    if dtype.is_numeric():
        return _whole(raw.cast(pl.Float64, strict=False))
    return _never().cast(pl.Int64)


def _whole(number: pl.Expr) -> pl.Expr:
    """How a whole number looks once a column with gaps went through floats: 3.0; 3.5 is not one."""
    return pl.when((number == number.floor()) & (number.abs() < _EXACT)).then(number).cast(pl.Int64, strict=False)


def _boolean(raw: pl.Expr, dtype: DataType) -> pl.Expr:
    if dtype == pl.Boolean:
        return raw
    if dtype == pl.String:
        text = raw.str.strip_chars().str.to_lowercase()
        return pl.when(text.is_in(_TRUE)).then(pl.lit(True)).when(text.is_in(_FALSE)).then(pl.lit(False))
    if dtype.is_numeric():
        return pl.when(raw == 1).then(pl.lit(True)).when(raw == 0).then(pl.lit(False))
    return _never().cast(pl.Boolean)


def _text(raw: pl.Expr, dtype: DataType) -> pl.Expr:
    if dtype == pl.String:
        return raw
    return raw.cast(pl.String) if dtype.is_integer() else _never().cast(pl.String)


def _key_part(name: str, entity: Entity, dtype: DataType) -> pl.Expr:
    raw, dtype = _text_or_raw(name, dtype)
    text = _text(raw, dtype)
    if entity.kind == "integer":
        digits = pl.when(text.str.strip_chars().str.contains(r"^[+-]?[0-9]+$")).then(text.str.strip_chars())
        plain = digits.str.strip_prefix("+").str.replace(r"^(-?)0+([0-9])", "$1$2")
        text = pl.when(plain == "-0").then(pl.lit("0")).otherwise(plain)
    return pl.when((text.str.len_bytes() <= MAX_KEY_BYTES) & ~text.str.contains("\x00", literal=True)).then(text)


def _json_text(values: pl.Series) -> pl.Series:
    known = values.drop_nulls().unique()
    quoted = [json.dumps(value, ensure_ascii=False) for value in known]
    return values.replace_strict(known, pl.Series(quoted, dtype=pl.String), default=None, return_dtype=pl.String)


def _instant(raw: pl.Expr, dtype: DataType, zone: str | None) -> pl.Expr:
    if dtype == pl.Date:
        return raw.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return raw.dt.convert_time_zone("UTC").cast(INSTANT)
    if isinstance(dtype, pl.Datetime) and zone is not None:
        return _in_zone(raw.cast(pl.Datetime("us")), zone)
    return _never().cast(INSTANT)


def _naive(raw: pl.Expr, dtype: DataType) -> pl.Expr:
    if dtype == pl.String:
        return raw.str.strip_chars().str.contains(_LOCAL + "$").fill_null(value=False)
    return raw.is_not_null() if isinstance(dtype, pl.Datetime) and dtype.time_zone is None else pl.lit(value=False)


def _instant_text(raw: pl.Expr, zone: str | None) -> pl.Expr:
    text = raw.str.strip_chars()
    day = pl.when(text.str.contains(_DATE)).then(text).str.to_date("%Y-%m-%d", strict=False)
    midnight = day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    moment = pl.when(text.str.contains(_LOCAL + r"\s?" + _OFFSET)).then(text)
    local = _local(moment.str.replace(_OFFSET, "").str.strip_chars_end())
    value = pl.coalesce((local - _offset(moment)).dt.replace_time_zone("UTC"), midnight)
    if zone is None:
        return value
    return pl.coalesce(value, _in_zone(_local(pl.when(text.str.contains(_LOCAL + "$")).then(text)), zone))


def _local(text: pl.Expr) -> pl.Expr:
    """``2024-01-31T12:00``, with or without seconds and their fraction, as a moment of no zone; null when there is no such day or hour."""
    full = pl.when(text.str.len_bytes() == len("2024-01-31T12:00")).then(text + ":00").otherwise(text)
    return full.str.replace(" ", "T", literal=True).str.strptime(
        pl.Datetime("us"), "%Y-%m-%dT%H:%M:%S%.f", strict=False
    )


def _in_zone(local: pl.Expr, zone: str) -> pl.Expr:
    """The first of two instants where clocks were set back, none where the hour was skipped."""
    return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _offset(text: pl.Expr) -> pl.Expr:
    """The offset at the end of a text (``Z``, ``+01:00``, ``-0530``) as a duration; null from a day on."""
    digits = text.str.slice(-6).str.replace(":", "", literal=True)
    hours, rest = (
        digits.str.slice(-4, 2).cast(pl.Int64, strict=False),
        digits.str.slice(-2).cast(pl.Int64, strict=False),
    )
    minutes = hours * 60 + rest
    signed = pl.when(digits.str.slice(-5, 1) == "-").then(-minutes).otherwise(minutes)
    utc = text.str.slice(-1).is_in(["Z", "z"])
    return pl.duration(minutes=pl.when(utc).then(0).when((minutes < 24 * 60) & (rest < 60)).then(signed))
