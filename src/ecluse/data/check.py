"""Rows against their contract: what is good comes out typed, what is bad goes to quarantine with its reasons, and a Verdict says whether to go on.

All row rules are expressions of one polars query, counted per rule. A rule that breaks rows fails only together, by the table's quarantine
share; a rule about the table (columns, volume, freshness, missing share, cardinality) fails at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ecluse.core.contract import AS_OF, Category, Column, Integer, Number, Table, Text
from ecluse.core.verdict import Finding, Outcome, Verdict, at_least, at_most, judge
from ecluse.data.frame import EVENT, INSTANT, KEY, REASONS, ROW, column_dtype, identity_of, schema_of
from ecluse.data.parse import RAW, blank, can_hold, parse_column, parse_key
from ecluse.data.rules import violated
from ecluse.frames.expression import AT


@dataclass(frozen=True)
class Checked:
    """``frame``: the good rows, typed, without ``__known``, in file order. ``quarantined``: the bad ones as they came, with ``__row`` (from 1)
    and ``__reasons``. ``counts``: bad rows by rule (a row may break several).
    """

    frame: pl.DataFrame
    quarantined: pl.DataFrame
    verdict: Verdict
    counts: Mapping[str, int]


def check(
    raw: pl.DataFrame, table: Table, as_of: datetime, *, references: Mapping[str, pl.Series] | None = None
) -> Checked:
    """Judge raw rows (``data.read``) as of a moment; ``references`` holds, by table name, the keys a reference may name.

    Two rows of one identity: exact copies but for one go to quarantine, rows that contradict each other all do, so that nothing depends
    on the order of a file. Linear in rows.
    """
    question = f"rows of {table.name}"
    findings = list(_column_findings(raw, table))
    if any(not finding.passed for finding in findings):
        return Checked(_empty(table), _quarantine(raw, pl.DataFrame(schema=_REASONED)), judge(question, findings), {})
    flagged = _flagged(raw, table, as_of, references or {})
    labels = flagged.columns[flagged.columns.index(ROW) + 1 :]
    reasons = _with_duplicates(_reasons(flagged, labels), flagged, table)
    frame = flagged.join(reasons, on=ROW, how="anti", maintain_order="left").select(list(schema_of(table, known=False)))
    counts = _counts(reasons)
    findings += _table_findings(raw, frame, table, as_of, counts)
    return Checked(frame, _quarantine(raw, reasons), judge(question, findings), counts)


def keys_of(raw: pl.DataFrame, table: Table) -> pl.Series:
    """The canonical keys of raw rows, whatever else is wrong with them; empty when a key column is missing."""
    if any(name not in raw.columns or not can_hold(raw.schema[name]) for name in table.key.columns):
        return pl.Series(KEY, [], dtype=pl.String)
    return _named(raw).select(parse_key(table.key, dict(raw.schema)).value.alias(KEY))[KEY].drop_nulls().unique()


def _named(raw: pl.DataFrame) -> pl.DataFrame:
    return raw.rename({name: RAW + name for name in raw.columns})


_REASONED = {ROW: pl.Int64(), REASONS: pl.List(pl.String())}


def _empty(table: Table) -> pl.DataFrame:
    return pl.DataFrame(schema=schema_of(table, known=False))


def _quarantine(raw: pl.DataFrame, reasons: pl.DataFrame) -> pl.DataFrame:
    kept = raw.select(name for name in raw.columns if name not in (ROW, REASONS))
    return reasons.join(kept.with_row_index(ROW, 1).cast({ROW: pl.Int64}), on=ROW, maintain_order="left")


# -- columns ----------------------------------------------------------------------------------------------------------


def _column_findings(raw: pl.DataFrame, table: Table) -> Iterator[Finding]:
    wanted = [*table.key.columns, *table.columns]
    for name in wanted:
        if name not in raw.columns:
            there = ", ".join(raw.columns)
            yield Finding("column", Outcome.FAILED, f"column {name} is missing; the file has {there}", subject=name)
        elif not can_hold(raw.schema[name]):
            why = f"column {name} holds {raw.schema[name]}, which is no kind of value"
            yield Finding("column", Outcome.FAILED, why, str(raw.schema[name]), subject=name)
    extra = [name for name in raw.columns if name not in wanted]
    why = f"not declared and left out: {', '.join(extra)}" if extra else f"all {len(wanted)} columns are there"
    yield Finding("columns", Outcome.PASSED, why, float(len(raw.columns)), float(len(wanted)))


# -- rows -------------------------------------------------------------------------------------------------------------


def _flagged(raw: pl.DataFrame, table: Table, as_of: datetime, references: Mapping[str, pl.Series]) -> pl.DataFrame:
    """The typed frame, ``__row``, and one Boolean column per rule (true: the row breaks it), named by the rule."""
    schema = dict(raw.schema)
    flags: dict[str, pl.Expr] = {}
    key = parse_key(table.key, schema)
    typed: dict[str, pl.Expr] = {KEY: key.value}
    name_of_key = "+".join(table.key.columns)
    flags |= {f"{name_of_key}: {rule}": wrong for rule, wrong in key.wrong.items()}
    for name, column in table.columns.items():
        parsed = parse_column(name, column, schema[name], table.zone)
        typed[name] = parsed.value.cast(column_dtype(column))
        flags |= {f"{name}: {rule}": wrong for rule, wrong in parsed.wrong.items()}
        if column.nulls == 0 or name in _times(table):  # a row without its times cannot be placed
            flags[f"{name}: missing"] = blank(name, schema[name])
    read = (
        _named(raw)
        .lazy()
        .with_columns(
            *(expr.alias(name) for name, expr in typed.items()),
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW),
        )
        .with_columns(_flag(wrong, label) for label, wrong in flags.items())
    )
    numbers = [name for name, column in table.columns.items() if isinstance(column, Number)]
    finite = read.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in numbers)
    event = pl.lit(as_of).cast(INSTANT) if table.event_time == AS_OF else pl.col(table.event_time)
    rules = dict(_row_rules(table, as_of, references))
    timed = finite.with_columns(event.alias(EVENT), pl.lit(as_of).cast(INSTANT).alias(AT))
    ruled = timed.with_columns(_flag(wrong, label) for label, wrong in rules.items())
    return ruled.select([*schema_of(table, known=False), ROW, *flags, *rules]).collect()


def _flag(wrong: pl.Expr, label: str) -> pl.Expr:
    return wrong.fill_null(value=False).alias(label)


def _row_rules(table: Table, as_of: datetime, references: Mapping[str, pl.Series]) -> Iterator[tuple[str, pl.Expr]]:
    for name, column in table.columns.items():
        yield from ((f"{name}: {rule}", wrong) for rule, wrong in _limits(name, column))
    for name in _times(table):
        yield f"{name}: from the future", pl.col(name) > pl.lit(as_of)
    for rule in table.rules:
        yield f"rule {rule.name}", violated(rule.condition, table.columns)
    for other in table.references:
        keys = references.get(other, pl.Series([], dtype=pl.String))
        yield f"{'+'.join(table.key.columns)}: unknown in {other}", ~pl.col(KEY).is_in(keys.implode())


def _times(table: Table) -> list[str]:
    times = [name for name in (table.event_time, table.available_at) if name not in (None, AS_OF)]
    return list(dict.fromkeys(str(name) for name in times))


def _limits(name: str, column: Column) -> Iterator[tuple[str, pl.Expr]]:
    value = pl.col(name)
    if isinstance(column, Number | Integer):
        if column.min is not None:
            yield f"below {column.min:g}", value < column.min
        if column.max is not None:
            yield f"above {column.max:g}", value > column.max
    elif isinstance(column, Category) and column.values:
        yield "unknown category", ~value.is_in(list(column.values))
    elif isinstance(column, Text):
        yield f"longer than {column.max_length}", value.str.len_chars() > column.max_length


def _reasons(flagged: pl.DataFrame, labels: list[str]) -> pl.DataFrame:
    """``__row`` and ``__reasons`` of every row with at least one."""
    if not labels:
        return pl.DataFrame(schema=_REASONED)
    bad = flagged.lazy().filter(pl.any_horizontal(labels))
    named = pl.concat_list(pl.when(pl.col(label)).then(pl.lit(label)) for label in labels).list.drop_nulls()
    return bad.select(ROW, named.alias(REASONS)).collect()


def _with_duplicates(reasons: pl.DataFrame, flagged: pl.DataFrame, table: Table) -> pl.DataFrame:
    good = flagged.join(reasons, on=ROW, how="anti", maintain_order="left")
    known = (
        [table.available_at] if table.available_at else []
    )  # known at another moment, it is a correction, not a copy
    identity = [*identity_of(table), *known]
    twice = good.filter(pl.struct(identity).is_duplicated())
    if twice.is_empty():
        return reasons
    every = list(schema_of(table, known=False))
    same = pl.len().over(every)
    contradicts = same != pl.len().over(identity)
    name = "+".join(table.key.columns)
    label = (
        pl.when(contradicts).then(pl.lit(f"{name}: contradicts another row"))
        .when(pl.int_range(pl.len()).over(every) > 0).then(pl.lit(f"{name}: duplicate"))
    )  # fmt: skip
    found = twice.select(ROW, label.alias("label")).drop_nulls()
    more = found.select(ROW, pl.concat_list("label").alias(REASONS))
    return pl.concat([reasons, more]).sort(ROW)


def _counts(reasons: pl.DataFrame) -> dict[str, int]:
    named = reasons.select(pl.col(REASONS).explode()).to_series().drop_nulls()
    counted = named.value_counts(sort=True).sort(["count", REASONS], descending=[True, False])
    return {str(label): int(rows) for label, rows in counted.iter_rows()}


# -- the table --------------------------------------------------------------------------------------------------------


def _table_findings(
    raw: pl.DataFrame, frame: pl.DataFrame, table: Table, as_of: datetime, counts: Mapping[str, int]
) -> Iterator[Finding]:
    least, most = table.rows
    yield at_least("volume", raw.height, least, subject="rows")
    if most is not None:
        yield at_most("volume", raw.height, most, subject="rows")
    if raw.height:
        yield _quarantine_finding(raw.height, frame.height, table.quarantine, counts)
        yield from _missing_findings(raw, table)
    yield from _cardinality_findings(frame, table)
    if table.freshness is not None and frame.height:
        newest = frame.select(pl.col(EVENT).max()).item()
        age, limit = (as_of - newest).total_seconds() / 86_400, table.freshness.total_seconds() / 86_400
        yield at_most("freshness", age, limit, subject="age of the newest row", unit=" d")


def _quarantine_finding(rows: int, good: int, limit: float, counts: Mapping[str, int]) -> Finding:
    bad = rows - good
    share = bad / rows
    ok = share <= limit
    named = "; ".join(f"{count} × {label}" for label, count in list(counts.items())[:5])
    why = f"{bad} of {rows} rows ({share:.2%}) are bad, {'within' if ok else 'above'} {limit:.2%}"
    return Finding(
        "quarantine", Outcome.PASSED if ok else Outcome.FAILED, why + (f": {named}" if named else ""), share, limit
    )


def _missing_findings(raw: pl.DataFrame, table: Table) -> Iterator[Finding]:
    allowed = {name: column.nulls for name, column in table.columns.items() if column.nulls > 0}
    if not allowed:
        return
    shares = _named(raw).select(blank(name, raw.schema[name]).mean().alias(name) for name in allowed).row(0, named=True)
    for name, limit in allowed.items():
        yield at_most("missing", shares[name], limit, subject=name)


def _cardinality_findings(frame: pl.DataFrame, table: Table) -> Iterator[Finding]:
    for name, column in table.columns.items():
        if isinstance(column, Category) and not column.values:
            different = frame.select(pl.col(name).drop_nulls().n_unique()).item()
            yield at_most("cardinality", different, column.max_distinct, subject=name)
