"""Raw values to typed ones: text or whatever a Parquet file holds, read as the declared kind or marked as wrong. Pure polars expressions.

Blank text is missing for every kind, never a value (never true). NaN and infinity are no numbers. Nothing is rounded or guessed: what
cannot be read exactly is marked, and the row goes to quarantine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import polars as pl
from polars.datatypes import DataType

from ecluse.core.contract import Boolean, Column, Instant, Integer, Number
from ecluse.core.entity import MAX_KEY_BYTES, Entity
from ecluse.data.frame import INSTANT

_EXACT = 2.0**53
_TRUE, _FALSE = ["true", "1", "1.0", "yes"], ["false", "0", "0.0", "no"]
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_MOMENT = r"^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2})?(\.\d{1,9})?\s?(Z|z|[+-]\d{2}:?\d{2})?$"


@dataclass(frozen=True)
class Parsed:
    """An expression of the typed value (null where missing or wrong) and, by label, of what is wrong with it (true: the row is bad)."""

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
    if isinstance(column, Number):
        return _number(raw, dtype)
    if isinstance(column, Integer):
        return _marked(raw, _integer(raw, dtype))
    if isinstance(column, Boolean):
        return _marked(raw, _boolean(raw, dtype))
    if isinstance(column, Instant):
        return _instant(raw, dtype, zone)
    return _marked(raw, _text(raw, dtype))


def parse_key(entity: Entity, schema: dict[str, DataType]) -> Parsed:
    """How to read the canonical key out of the raw key columns; equal to ``core.entity.canonical_key`` row by row."""
    parts = [_key_part(name, entity, schema[name]) for name in entity.columns]
    wrong = {"bad key": pl.any_horizontal(part.is_null() for part in parts)}
    if len(parts) == 1:
        return Parsed(parts[0], wrong)
    quoted = [part.map_batches(_json_text, return_dtype=pl.String()) for part in parts]
    return Parsed(pl.concat_str([pl.lit("["), pl.concat_str(quoted, separator=","), pl.lit("]")]), wrong)


def _text_or_raw(name: str, dtype: DataType) -> tuple[pl.Expr, DataType]:
    raw = pl.col(name)
    if dtype in (pl.Categorical, pl.Enum, pl.Null):
        raw, dtype = raw.cast(pl.String), pl.String()
    if dtype == pl.String:
        raw = pl.when(raw.str.strip_chars() != "").then(raw)
    return raw, dtype


def _marked(raw: pl.Expr, value: pl.Expr) -> Parsed:
    return Parsed(value, {"wrong type": raw.is_not_null() & value.is_null()})


def _never() -> pl.Expr:
    return pl.lit(None)


def _number(raw: pl.Expr, dtype: DataType) -> Parsed:
    if dtype == pl.String:
        value = raw.str.strip_chars().cast(pl.Float64, strict=False)
    elif dtype.is_numeric():
        value = raw.cast(pl.Float64, strict=False)
    else:
        value = _never().cast(pl.Float64)
    finite = pl.when(value.is_finite()).then(value + 0.0)  # -0.0 becomes 0.0: one number, one digest
    wrong = {"wrong type": raw.is_not_null() & value.is_null(), "not a finite number": ~value.is_finite()}
    return Parsed(finite, wrong)


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
    """ "3.0" is how a whole number looks once a column with gaps went through floats; 3.5 is not one."""
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


def _instant(raw: pl.Expr, dtype: DataType, zone: str | None) -> Parsed:
    if dtype == pl.String:
        return _instant_text(raw, zone)
    if dtype == pl.Date:
        return _marked(raw, raw.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            return _marked(raw, raw.dt.convert_time_zone("UTC").cast(INSTANT))
        local = raw.cast(pl.Datetime("us"))
        if zone is None:
            return Parsed(_never().cast(INSTANT), {"naive timestamp": raw.is_not_null()})
        return _marked(raw, _in_zone(local, zone))
    return _marked(raw, _never().cast(INSTANT))


def _instant_text(raw: pl.Expr, zone: str | None) -> Parsed:
    text = raw.str.strip_chars()
    groups = text.str.extract_groups(_MOMENT).struct
    offset = groups.field("5")
    written = pl.concat_str(
        groups.field("1"), pl.lit("T"), groups.field("2"), groups.field("3").fill_null(":00"),
        groups.field("4").fill_null(".0"),
    )  # fmt: skip
    local = written.str.strptime(pl.Datetime("us"), "%Y-%m-%dT%H:%M:%S%.f", strict=False)
    day = pl.when(text.str.contains(_DATE)).then(text).str.to_date("%Y-%m-%d", strict=False)
    midnight = day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    exact = (local - _offset(offset)).dt.replace_time_zone("UTC")
    naive = local.is_not_null() & offset.is_null()
    value = pl.coalesce(midnight, pl.when(offset.is_not_null()).then(exact))
    if zone is None:
        wrong = {"wrong type": raw.is_not_null() & value.is_null() & ~naive.fill_null(False), "naive timestamp": naive}
        return Parsed(value, wrong)
    return _marked(raw, pl.coalesce(value, pl.when(naive).then(_in_zone(local, zone))))


def _in_zone(local: pl.Expr, zone: str) -> pl.Expr:
    """The first of two instants where clocks were set back, none where the hour was skipped."""
    return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _offset(text: pl.Expr) -> pl.Expr:
    """``Z``, ``+01:00`` or ``-0530`` as a duration; null beyond a day."""
    digits = text.str.replace(":", "", literal=True)
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(3, 2).cast(
        pl.Int64, strict=False
    )
    signed = pl.when(text.str.starts_with("-")).then(-minutes).otherwise(minutes)
    within = pl.when(text.str.to_uppercase() == "Z").then(0).when(minutes < 24 * 60).then(signed)
    return pl.duration(minutes=within)
