"""As of: the rows of a history that were known at a moment, and a view's features over them. The only file that knows time travel.

A row is its key, event time and the table's ``identity`` columns; ``__known`` says when it was known. For a question ``(key, at)``:

1. rows with ``__known <= at`` and ``__event <= at`` are *visible*; of those that are the same row, the one known last is *live*
   (of two known at the same instant: the one ingested last);
2. ``last`` is the live row with the latest event (several rows at one event: the greatest identity); a window holds the live
   rows with ``at - over < event <= at``;
3. when the latest live event is older than the view's time-to-live, or there is none in a view that has one, everything is missing.

How it is fast: rows are sorted once by key, event and identity. Within a key whose rows became visible in that order and were never
corrected, the live rows at any moment are a prefix, so one binary search finds the last row and the end of every window, a second
one its start. Elsewhere ``last`` searches among the rows that were the newest when they became visible (a row older than the newest
already known can never be the answer again), and windows are a range join: the rows of the event window, filtered by the
interval each was live in. O((N + M) log n + sum of the windows) for N rows, M questions, n rows of a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.instants import to_micros
from ecluse.core.view import Aggregation, FeatureKind, FeatureView

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

DTYPES: dict[FeatureKind, pl.DataType] = {
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "category": pl.String(),
    "instant": pl.Datetime("us", "UTC"),
}
_FOREVER = np.iinfo(np.int64).max
_PAIRS = 4_000_000  # rows looked at together in a range join: bounds memory to some hundred megabytes


def view_as_of(history: pl.DataFrame, view: FeatureView, asks: pl.DataFrame) -> pl.DataFrame:
    """A view's features at the moments asked for: the rows of ``asks`` in their order, whatever it is, duplicates included.

    ``history``: ``__key`` String, ``__event`` and ``__known`` Datetime("us", "UTC") and the table's columns, in order of ingest.
    ``asks``: ``__key`` String, ``__at`` Datetime("us", "UTC"). Returns one column per feature (number Float64, boolean Boolean,
    category String, instant Datetime) and ``__event``, the latest live event (null: no live row, or older than the ttl).
    """
    timeline = _timeline(history, view)
    questions = _ask(timeline, asks, view.ttl)
    windows = {over: _window(timeline, questions, over) for over in _spans(view)}
    columns = [_column(timeline, questions, windows, name, each, view) for name, each in view.features.items()]
    latest = timeline.rows["__event"].gather(questions.pointer).alias("__event")
    return pl.DataFrame([*columns, latest])


def known_keys(history: pl.DataFrame, moment: datetime) -> pl.Series:
    """The keys of all rows known at a moment, sorted, each once."""
    return history.filter(pl.col("__known") <= moment)["__key"].unique().sort().rename("__key")


@dataclass(frozen=True)
class _Timeline:
    """A history, sorted by key, event, identity and known; row numbers below are places in that order.

    ``start`` [keys + 1]: first row of each key. ``event``, ``visible`` (later of event and known) and ``until`` (visible moment of the
    correction that replaces it) [N] in microseconds. ``newest``: rows that were the newest when they became visible, by key and
    visible moment, and ``newest_start`` their firsts. ``uneven`` [keys]: corrected, or known in another order than they happened.
    """

    rows: pl.DataFrame
    keys: pl.DataFrame
    start: Ints
    event: Ints
    visible: Ints
    until: Ints
    newest: Ints
    newest_start: Ints
    uneven: Bools


@dataclass(frozen=True)
class _Questions:
    """``key`` [M]: number of the key (-1: unknown); ``at`` [M]; ``last`` [M]: the row that answers (-1: none), before the ttl is judged;
    ``dead`` [M]: nothing may be answered; ``pointer``: ``last`` as row numbers, null where there is none or it is dead.
    """

    key: Ints
    at: Ints
    last: Ints
    dead: Bools
    pointer: pl.Series


@dataclass(frozen=True)
class _Windows:
    """Live rows per question: ``rows[low:high]`` are row numbers in event order; ``rows`` None stands for 0, 1, 2, …"""

    asks: Ints
    low: Ints
    high: Ints
    rows: Ints | None


def _timeline(history: pl.DataFrame, view: FeatureView) -> _Timeline:
    table = view.table
    wanted = dict.fromkeys([*table.identity, *(each.column for each in view.features.values() if each.column)])
    names = ["__key", "__event", *table.identity, "__known"]
    rows = history.select("__key", "__event", "__known", *wanted).sort(names, maintain_order=True)
    event, known = _micros(rows["__event"]), _micros(rows["__known"])
    same_key = _repeats(rows.select("__key"))
    same_row = _repeats(rows.select("__key", "__event", *table.identity))
    number = np.cumsum(~same_key) - 1
    start = np.append(np.flatnonzero(~same_key), rows.height)
    visible = np.maximum(event, known)
    until = np.full(rows.height, _FOREVER)
    until[:-1][same_row[1:]] = visible[1:][same_row[1:]]
    uneven = np.zeros(start.size - 1, np.bool_)
    uneven[number[1:][same_row[1:] | (same_key[1:] & (visible[1:] < visible[:-1]))]] = True
    newest = _newest(number, visible, np.cumsum(~same_row), uneven)
    newest_start = np.searchsorted(number[newest], np.arange(start.size)) if uneven.any() else start
    keys = rows.select("__key").filter(~pl.Series(same_key)).with_row_index("__number")
    return _Timeline(rows, keys, start, event, visible, until, newest, newest_start, uneven)


def _newest(number: Ints, visible: Ints, slot: Ints, uneven: Bools) -> Ints:
    """Rows by key and visible moment, without those older than a row visible before. ``slot``: rises with key, event, identity."""
    order: Ints = np.arange(number.size)
    if not uneven.any():
        return order
    touched = np.flatnonzero(uneven[number])
    # a key's rows are neighbours, so sorting the touched ones among themselves leaves every key in its place
    order[touched] = touched[np.lexsort((touched, visible[touched], number[touched]))]
    ranked = slot[order]
    newest: Ints = order[ranked == np.maximum.accumulate(ranked)]
    return newest


def _ask(timeline: _Timeline, asks: pl.DataFrame, ttl: timedelta | None) -> _Questions:
    found = asks.select("__key").join(timeline.keys, on="__key", how="left", maintain_order="left")["__number"]
    key = found.cast(pl.Int64).fill_null(-1).to_numpy()
    at = _micros(asks["__at"])
    low, high = _bounds(timeline.newest_start, key)
    place = _count_until(timeline.visible[timeline.newest], at, low, high)
    last = np.full(at.size, -1)
    last[place > low] = timeline.newest[place[place > low] - 1]
    dead = np.zeros(at.size, np.bool_)
    if ttl is not None:
        dead = last < 0
        dead[~dead] = at[~dead] - timeline.event[last[~dead]] > _span(ttl)
    pointer = _masked(last, ~dead & (last >= 0))
    return _Questions(key, at, last, dead, pointer)


def _bounds(start: Ints, key: Ints) -> tuple[Ints, Ints]:
    """First and one past the last place of each key; the empty range for unknown keys."""
    known = key >= 0
    low, high = np.zeros(key.size, np.int64), np.zeros(key.size, np.int64)
    low[known], high[known] = start[key[known]], start[key[known] + 1]
    return low, high


def _count_until(times: Ints, at: Ints, low: Ints, high: Ints) -> Ints:
    """The first place in ``times[low:high]`` (ascending there) that is later than ``at``, for all questions at once (bisection)."""
    low, high = low.copy(), high.copy()
    if not times.size:
        return low
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        open_ = low < high
        right = open_ & (times[np.minimum(middle, times.size - 1)] <= at)
        low = np.where(right, middle + 1, low)
        high = np.where(open_ & ~right, middle, high)
    return low


def _spans(view: FeatureView) -> set[timedelta | None]:
    return {each.over for each in view.features.values() if each.function != "last"}


def _window(timeline: _Timeline, questions: _Questions, over: timedelta | None) -> list[_Windows]:
    """The live rows of every window: one batch for keys whose live rows are a prefix, batches of bounded size for the others."""
    key, at = questions.key, questions.at
    first, end = _bounds(timeline.start, key)
    low = first if over is None else _count_until(timeline.event, at - _span(over), first, end)
    uneven = np.zeros(key.size, np.bool_)
    uneven[key >= 0] = timeline.uneven[key[key >= 0]]
    even = np.flatnonzero(~uneven)
    high = questions.last[even] + 1
    batches = [_Windows(even, np.minimum(low[even], high), high, None)]
    odd = np.flatnonzero(uneven)
    if odd.size:
        stop = _count_until(timeline.event, at[odd], first[odd], end[odd])
        for part in _parts(stop - low[odd]):
            batches.append(_live(timeline, odd[part], low[odd[part]], stop[part], at[odd[part]]))
    return batches


def _live(timeline: _Timeline, asks: Ints, low: Ints, high: Ints, at: Ints) -> _Windows:
    """Range join: the rows of each event window that were live at its moment."""
    which, rows = _expand(low, high)
    moment = at[which]
    live = (timeline.visible[rows] <= moment) & (moment < timeline.until[rows])
    ends = np.cumsum(np.bincount(which[live], minlength=asks.size))
    return _Windows(asks, np.append(0, ends[:-1]), ends, rows[live])


def _expand(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """(question, place) for every place of every range ``low:high``."""
    size = np.maximum(high - low, 0)
    which = np.repeat(np.arange(size.size), size)
    within = np.arange(which.size) - np.repeat(np.cumsum(size) - size, size)
    return which, low[which] + within


def _parts(sizes: Ints) -> Iterator[Ints]:
    """Consecutive runs of questions whose sizes add up to about ``_PAIRS``."""
    if sizes.size:
        block = (np.cumsum(np.maximum(sizes, 0)) - 1) // _PAIRS
        yield from np.split(np.arange(sizes.size), np.flatnonzero(np.diff(block)) + 1)


def _column(
    timeline: _Timeline,
    questions: _Questions,
    windows: dict[timedelta | None, list[_Windows]],
    name: str,
    aggregation: Aggregation,
    view: FeatureView,
) -> pl.Series:
    dtype = DTYPES[view.kinds[name]]
    if aggregation.function == "last":
        pointer = questions.pointer
        if aggregation.over is not None:
            event = timeline.event.take(questions.last, mode="clip") if timeline.event.size else questions.at
            inside = questions.at - event < _span(aggregation.over)
            pointer = _masked(questions.last, inside & ~questions.dead & (questions.last >= 0))
        return timeline.rows[str(aggregation.column)].gather(pointer).cast(dtype).alias(name)
    column = None if aggregation.column is None else timeline.rows[aggregation.column]
    values, present = np.zeros(questions.at.size), np.zeros(questions.at.size, np.bool_)
    for batch in windows[aggregation.over]:
        values[batch.asks], present[batch.asks] = _aggregate(aggregation.function, column, batch)
    return _masked(values, present & ~questions.dead).cast(dtype).alias(name)


def _aggregate(function: str, column: pl.Series | None, batch: _Windows) -> tuple[Floats, Bools]:
    """(value, whether there is one) of each window of a batch."""
    always = np.ones(batch.asks.size, np.bool_)
    if column is None:
        return (batch.high - batch.low).astype(np.float64), always
    if function == "distinct":
        return _distinct(column, batch), always
    rows: Any = slice(None) if batch.rows is None else batch.rows
    filled = column.is_not_null().to_numpy()[rows]
    running = np.append(0, np.cumsum(filled))
    counts = running[batch.high] - running[batch.low]
    if function == "count":
        return counts.astype(np.float64), always
    if function in ("lowest", "highest"):
        operation, nothing = (np.minimum, np.inf) if function == "lowest" else (np.maximum, -np.inf)
        return _reduce(operation, _numbers(column, nothing)[rows], batch), counts > 0
    sums = _reduce(np.add, _numbers(column, 0.0)[rows], batch)
    return (sums, always) if function == "total" else (sums / np.maximum(counts, 1), counts > 0)


def _reduce(operation: np.ufunc, values: Floats, batch: _Windows) -> Floats:
    """``operation`` over ``values[low:high]`` of each window, 0 for empty ones.

    Each window is summed by itself: differences of running sums would be as fast, but their rounding depends on rows
    outside the window, and the same question asked again later must give the same double.
    """
    out = np.zeros(batch.asks.size)
    full = np.flatnonzero(batch.high > batch.low)
    if not full.size:
        return out
    if np.any(np.diff(batch.low[full]) < 0):  # reduceat also reduces the gap up to the next window: keep gaps short
        full = full[np.argsort(batch.low[full], kind="stable")]
    edges = np.stack([batch.low[full], batch.high[full]], axis=1).ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        out[full] = operation.reduceat(np.append(values, 0.0), edges)[::2]
    return out


def _distinct(column: pl.Series, batch: _Windows) -> Floats:
    """Exact number of different values that are present in each window."""
    out = np.zeros(batch.asks.size)
    for part in _parts(batch.high - batch.low):
        which, place = _expand(batch.low[part], batch.high[part])
        rows = place if batch.rows is None else batch.rows[place]
        pairs = pl.DataFrame([pl.Series("which", which), column.gather(rows).alias("value")]).drop_nulls("value")
        counts = np.bincount(pairs.unique()["which"].to_numpy(), minlength=part.size)
        out[part] = counts
    return out


def _repeats(frame: pl.DataFrame) -> Bools:
    """Whether each row equals the one before it (missing equals missing)."""
    if frame.is_empty():
        return np.zeros(0, np.bool_)
    same = frame.select(pl.all_horizontal(pl.all().eq_missing(pl.all().shift(1)))).to_series().to_numpy(writable=True)
    same[0] = False
    return np.asarray(same, np.bool_)


def _micros(column: pl.Series) -> Ints:
    return np.asarray(column.to_physical().to_numpy(), np.int64)


def _span(value: timedelta) -> int:
    return value // timedelta(microseconds=1)


def _numbers(column: pl.Series, missing: float) -> Floats:
    return np.asarray(column.cast(pl.Float64).fill_null(missing).to_numpy(), np.float64)


def _masked(values: npt.NDArray[Any], there: Bools) -> pl.Series:
    """``values`` where they are there, null elsewhere."""
    series = pl.Series(values)
    if there.all():
        return series
    return pl.select(pl.when(pl.Series(there)).then(series)).to_series()


def moment_frame(keys: pl.Series, moment: datetime) -> pl.DataFrame:
    """Every key asked about at one moment: ``__key``, ``__at``."""
    at = pl.lit(to_micros(moment)).cast(pl.Datetime("us", "UTC")).alias("__at")
    return pl.DataFrame([keys.cast(pl.String).rename("__key")]).with_columns(at)
