"""Evaluation: every metric of the field for the task, on the rows trained on and on those held out, and per segment of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.errors import DeclarationError
from ecluse.core.model import Task
from ecluse.core.settings import FILE
from ecluse.stats.catalog import measure
from ecluse.training.target import UNSEEN

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Judged:
    """Rows to measure on: target codes or values (n,), predictions (n,) or (n, K)."""

    y: npt.NDArray[np.int64] | Array
    prediction: Array

    def only(self, rows: Mask) -> Judged:
        """Some of the rows."""
        return Judged(self.y[rows], self.prediction[rows])


def metrics_of(task: Task, rows: Judged, threshold: float | None, costs: Mapping[str, float] | None) -> Metrics:
    """Every metric by name, None where undefined. Rows of a class never trained on are left out (they cannot be answered)."""
    if task == "multiclass":
        rows = rows.only(rows.y != UNSEEN)
    if not rows.y.size:
        return {}
    found = measure(task, rows.y, rows.prediction, threshold=0.5 if threshold is None else threshold, costs=costs)
    return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}


def segment_masks(frame: pl.DataFrame, columns: Sequence[str], least: int) -> Iterator[tuple[str, Mask]]:
    """(``"plan=Basic"``, rows of it) for every value of every column with at least ``least`` rows, sorted. Missing is a value too.

    Raises DeclarationError for a column the frame does not have.
    """
    for column in columns:
        if column not in frame.columns or column.startswith("__"):
            known = ", ".join(name for name in frame.columns if not name.startswith("__"))
            raise DeclarationError(f"no feature `{column}`", where=f"{FILE}: gates.segments", cure=f"features: {known}")
        values = segment_values(frame[column])
        for value, rows in sorted(values.value_counts(name="__rows").rows()):
            if rows >= least:
                yield f"{column}={value}", (values == value).to_numpy()


def segment_values(series: pl.Series) -> pl.Series:
    """A feature's values as the text segments are named by: ``true``/``false``, numbers without a needless ``.0``, ``missing``.

    >>> segment_values(pl.Series([1.0, 2.5, None])).to_list()
    ['1', '2.5', 'missing']
    """
    if series.dtype.is_float():
        whole = (series.is_null() | (series == series.floor())).all()
        series = series.cast(pl.Int64, strict=False) if whole else series
        text = series.cast(pl.String).str.replace(r"\.0$", "")
    else:
        text = series.cast(pl.String)
    return text.fill_null("missing")


def segments_of(
    task: Task,
    frame: pl.DataFrame,
    rows: Judged,
    columns: Sequence[str],
    *,
    least: int,
    threshold: float | None,
    costs: Mapping[str, float] | None,
    prefix: str = "",
) -> dict[str, Metrics]:
    """Metrics per segment; ``frame`` has the same rows as ``rows``."""
    return {
        prefix + name: metrics_of(task, rows.only(mask), threshold, costs)
        for name, mask in segment_masks(frame, columns, least)
    }
