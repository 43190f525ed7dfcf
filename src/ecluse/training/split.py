"""The split: which labelled rows are trained on, which are held out to judge on, and which are used by neither.

By entity a key's fixed position (a hash) decides, once and for ever, whatever the order of the rows; by time the newest label moments
are held out and those within the embargo before them are dropped.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.errors import InvalidInput
from ecluse.core.instants import from_micros, to_micros
from ecluse.core.recipe import Split, held_position
from ecluse.core.settings import Training

Mask = npt.NDArray[np.bool_]
_WHERE = "ecluse.toml: training"


def make_split(training: Training, keys: pl.Series, at: pl.Series, delay: timedelta) -> Split:
    """The split of these labelled rows: keys (n,) canonical text, ``at`` (n,) label moments. O(n log n).

    A split by time cuts between two label moments, so that the held share is as close to ``held_out`` as they allow; without a declared
    embargo, whatever truth was not known ``delay`` after its moment when the held-out time began is not trained on. Raises InvalidInput
    without rows, or when a split by time finds a single label moment.
    """
    if keys.is_empty():
        raise InvalidInput("no labelled rows to split", where=_WHERE, cure="ingest labels that are mature")
    newest = at.max()
    assert isinstance(newest, datetime)
    oldest = None if training.history is None else newest - training.history
    if training.split == "entity":
        return Split("entity", training.held_out, history_from=oldest, last_moment=newest)
    cutoff, first_held = _cut(at, training.held_out)
    unknown = max(delay - (first_held - cutoff), timedelta(0))
    return Split(
        "time",
        training.held_out,
        cutoff=cutoff,
        embargo=unknown if training.embargo is None else training.embargo,
        history_from=oldest,
        last_moment=newest,
    )


def masks(split: Split, keys: pl.Series, at: pl.Series, training: Training) -> tuple[Mask, Mask]:
    """(trained on, held out and judged on), two disjoint boolean arrays (n,) over the rows. O(n), one hash per distinct key."""
    moments = at.dt.timestamp("us").to_numpy()
    newest = split.last_moment
    assert newest is not None
    if split.kind == "entity":
        held = _positions(keys) < split.held_out
        trained = ~held
    else:
        assert split.cutoff is not None
        held = moments > to_micros(split.cutoff)
        trained = moments <= to_micros(split.cutoff - split.embargo)
    if split.history_from is not None:
        trained &= moments >= to_micros(split.history_from)
    if training.validation is not None:
        held &= moments >= to_micros(newest - training.validation)
    within = moments <= to_micros(newest)
    return trained & within, held & within


def _cut(at: pl.Series, held_out: float) -> tuple[datetime, datetime]:
    """The last label moment before the cut and the first one held out."""
    moments, rows = np.unique(at.dt.timestamp("us").to_numpy(), return_counts=True)
    if moments.size < 2:
        raise InvalidInput(
            "a split by time needs two label moments, there is one",
            where=_WHERE,
            cure='set split = "entity" or ingest older labels',
        )
    held_share = 1 - np.cumsum(rows)[:-1] / rows.sum()
    best = int(np.argmin(np.abs(held_share - held_out)))
    return from_micros(int(moments[best])), from_micros(int(moments[best + 1]))


def _positions(keys: pl.Series) -> npt.NDArray[np.float64]:
    distinct = keys.unique()
    places = pl.Series([held_position(key) for key in distinct.to_list()], dtype=pl.Float64)
    return keys.replace_strict(distinct, places, return_dtype=pl.Float64).to_numpy()
