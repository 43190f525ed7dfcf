"""The features of a view by looping over rows: slow, plain, and what ``features/as_of.py`` must equal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ecluse.core.view import Aggregation, FeatureView

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One question's features and its latest live event."""

    values: Mapping[str, Any]
    event: datetime | None


def answer(history: Sequence[Row], view: FeatureView, key: str, at: datetime) -> Answer:
    """``history`` in order of ingest, each row with ``__key``, ``__event``, ``__known``."""
    live: dict[tuple[Any, ...], tuple[datetime, Row]] = {}
    for row in history:
        if row["__key"] != key or row["__known"] > at or row["__event"] > at:
            continue
        name = (row["__event"], *((row[column] is not None, row[column]) for column in view.table.identity))
        if name not in live or row["__known"] >= live[name][0]:
            live[name] = (row["__known"], row)
    rows = [live[name][1] for name in _ordered(live)]
    event = rows[-1]["__event"] if rows else None
    if view.ttl is not None and (event is None or at - event > view.ttl):
        return Answer(dict.fromkeys(view.features), None)
    return Answer({name: _aggregate(rows, each, at) for name, each in view.features.items()}, event)


def _ordered(live: Mapping[tuple[Any, ...], Any]) -> list[tuple[Any, ...]]:
    def order(name: tuple[Any, ...]) -> tuple[Any, ...]:
        event, *identity = name
        return (event, *((there, value if there else 0) for there, value in identity))

    return sorted(live, key=order)


def _aggregate(rows: Sequence[Row], aggregation: Aggregation, at: datetime) -> Any:
    over: timedelta | None = aggregation.over
    if aggregation.function == "last":
        rows = rows[-1:]
    window = [row for row in rows if over is None or at - row["__event"] < over]
    if aggregation.column is None:
        return float(len(window))
    values = [row[aggregation.column] for row in window]
    if aggregation.function == "last":
        return _plain(values[-1]) if values else None
    present = [value for value in values if value is not None]
    if aggregation.function in ("count", "distinct"):
        return float(len(present if aggregation.function == "count" else set(present)))
    if aggregation.function == "total":
        return float(sum(present))
    if not present:
        return None
    if aggregation.function == "mean":
        return sum(present) / len(present)
    return float(min(present) if aggregation.function == "lowest" else max(present))


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
