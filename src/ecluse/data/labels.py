"""Labels: which truths are known at a moment, and which are still to come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ecluse.core.contract import Integer
from ecluse.core.model import Label
from ecluse.data.frame import EVENT, KEY, KNOWN, identity_of

AT, Y = "__at", "y"


@dataclass(frozen=True)
class Labels:
    """``frame``: ``__key``, ``__at`` (the label's moment) and ``y`` (Boolean, String or Float64), sorted by both. ``immature``: known rows
    whose truth is still to come; ``matures``: when the first of them is; ``missing``: mature rows without a value.
    """

    frame: pl.DataFrame
    immature: int
    matures: datetime | None
    missing: int


def label_rows(history: pl.DataFrame, label: Label, moment: datetime) -> Labels:
    """The truths known by ``moment`` (inclusive), corrections applied, at least ``label.delay`` after their own moment.

    Of the rows of one identity the later-known wins; among equally late ones the later ingested. Linear in rows.
    """
    table = label.table
    known = history.filter(pl.col(KNOWN) <= moment).sort(KNOWN, maintain_order=True)
    latest = known.unique(identity_of(table), keep="last", maintain_order=True)
    mature = pl.col(EVENT) <= moment - label.delay
    waiting = latest.filter(~mature)
    first = waiting.select(pl.col(EVENT).min()).item()
    y = pl.col(label.column)
    if isinstance(table.columns[label.column], Integer):
        y = y.cast(pl.Float64)
    ripe = latest.filter(mature).select(KEY, pl.col(EVENT).alias(AT), y.alias(Y))
    frame = ripe.drop_nulls(Y).sort(KEY, AT, maintain_order=True)
    matures = None if first is None else first + label.delay
    return Labels(frame, waiting.height, matures, ripe.height - frame.height)
