"""One table with every kind of column, and a way to put text rows before it."""

from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from ecluse.core.contract import Boolean, Category, Instant, Integer, Number, Rule, Table, Text
from ecluse.core.entity import Entity
from ecluse.core.expression import col

AS_OF = datetime(2024, 2, 1, tzinfo=UTC)
USER = Entity("user_id")


def visits(**more: object) -> Table:
    """A table of visits: seven columns, one of each kind, and a rule; anything may be overridden."""
    declared: dict[str, object] = {
        "name": "visits",
        "key": USER,
        "event_time": "at",
        "columns": {
            "at": Instant(),
            "tenure": Integer(min=0, max=600),
            "fee": Number(min=0),
            "paid": Number(nulls=0.5),
            "active": Boolean(nulls=0.5),
            "plan": Category(("Basic", "Gold")),
            "note": Text(max_length=5, nulls=1.0),
        },
        "rules": (Rule("paid_covers_fee", col("paid") >= col("fee")),),
        "quarantine": 1.0,
    }
    return Table(**(declared | more))  # type: ignore[arg-type]


GOOD = {
    "user_id": "u1", "at": "2024-01-31", "tenure": "3", "fee": "9.5", "paid": "10", "active": "True",
    "plan": "Gold", "note": "hi",
}  # fmt: skip


def rows(*changes: Mapping[str, str | None], **columns: str) -> pl.DataFrame:
    """Text rows as a CSV gives them: a good one per change, changed, with a key of its own unless the change names one."""
    made = [{**GOOD, "user_id": f"u{number}", **columns, **change} for number, change in enumerate(changes, start=1)]
    return pl.DataFrame(made, schema=dict.fromkeys({**GOOD, **columns}, pl.String))
