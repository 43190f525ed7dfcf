"""Materialise: a view's features of every entity at one moment, as the rows an online store keeps."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from ecluse.core.instants import to_micros
from ecluse.core.ports import OnlineRow
from ecluse.core.view import FeatureView
from ecluse.features.as_of import moment_frame, view_as_of


def online_rows(
    history: pl.DataFrame, view: FeatureView, keys: pl.Series, moment: datetime
) -> list[tuple[str, OnlineRow]]:
    """The view's features as of ``moment`` for each of ``keys``, in their order: the same numbers training gets for that moment.

    ``keys`` are all keys of the entity, also those without a row in this table: their counts are 0, not unknown. Values are
    floats, booleans, text, None; instants are UTC microseconds. ``event`` is None when there is no live row.
    """
    found = view_as_of(history, view, moment_frame(keys, moment))
    plain = found.select(pl.col(name).to_physical() if kind == "instant" else name for name, kind in view.kinds.items())
    events = found["__event"].to_physical().to_list()
    as_of = to_micros(moment)
    return [
        (key, OnlineRow(values, as_of, event))
        for key, values, event in zip(keys.to_list(), plain.to_dicts(), events, strict=True)
    ]
