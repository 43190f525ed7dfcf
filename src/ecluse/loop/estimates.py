"""Estimates: the performance of what was answered and is not yet known, from the validation scores beside a version's bundle."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
import polars as pl

from ecluse.core.errors import NotFound
from ecluse.core.loop_settings import Monitoring
from ecluse.core.ports import World
from ecluse.loop.retrain import HELD_OUT
from ecluse.monitoring.estimated import Estimated, Rows, estimate
from ecluse.monitoring.performance import Joined, arrays_of, scores_of, threshold_of
from ecluse.monitoring.window import Record
from ecluse.training.make import PREDICTION, Y


def estimated(
    world: World, bundle: str, task: str, classes: Sequence[str], joined: Joined, limits: Monitoring
) -> Estimated | None:
    """Estimate the answers that wait in ``joined`` (of rows the version did not learn). None when it is switched off or nothing waits.

    Linear in the predictions. Of a version that was pruned nothing is known.
    """
    if not limits.estimate_rows or not joined.open:
        return None
    try:
        validation = _validation(world.bundles.read_beside(bundle, HELD_OUT), task)
    except NotFound:
        return Estimated(len(joined.open), {}, why="the validation scores are not beside the bundle any more")
    matured = [_rows(task, classes, each) for each in windows(joined, limits.estimate_rows, limits.min_outcomes)]
    waiting = Rows(scores_of(task, classes, joined.open), np.empty(0))
    threshold = threshold_of(joined.open)
    return estimate(task, validation, matured, waiting, threshold, least=limits.min_samples)


def windows(joined: Joined, rows: int, least: int) -> list[Joined]:
    """The predictions whose truths are known, in order of their moments, ``rows`` a window; a rest below ``least`` goes with the last.

    Those of one moment are shuffled, always alike: asked for in the order of a list, its stretches would be no samples of the month.

    >>> records = [{"as_of": None, "time": f"2024-01-0{i}", "id": str(i)} for i in (3, 1, 2)]
    >>> [[r["id"] for r in each.records] for each in windows(Joined(records, [True] * 3, 0), 2, 1)]
    [['1', '2'], ['3']]
    """
    order = sorted(range(len(joined.records)), key=lambda i: _place(joined.records[i]))
    starts = list(range(0, len(order), rows))
    if len(starts) > 1 and len(order) - starts[-1] < least:
        starts.pop()
    found = []
    for start, stop in pairwise([*starts, len(order)]):
        part = order[start:stop]
        if len(part) >= least:
            found.append(Joined([joined.records[i] for i in part], [joined.truths[i] for i in part], 0))
    return found


def _place(record: Record) -> tuple[str, int, str]:
    return moment_of(record), crc32(record["id"].encode()), record["id"]


def moment_of(record: Record) -> str:
    """The moment an answer was about: its features' as-of, else when it was asked."""
    return str(record["as_of"] or record["time"])


def _rows(task: str, classes: Sequence[str], joined: Joined) -> Rows:
    y, scores = arrays_of(task, classes, joined)
    return Rows(scores, y, moment_of(joined.records[0]), moment_of(joined.records[-1]))


def _validation(data: bytes, task: str) -> Rows:
    """Truths and scores of the held-out rows, no inputs read; rows of a class never trained on left out."""
    names = [name for name in pl.read_parquet_schema(io.BytesIO(data)) if name.startswith(PREDICTION)]
    frame = pl.read_parquet(io.BytesIO(data), columns=[Y, *names])
    y, scores = frame[Y].to_numpy().astype(np.float64), frame.select(names).to_numpy()
    kept = y >= 0 if task == "multiclass" else np.isfinite(y)
    return Rows((scores if task == "multiclass" else scores[:, 0])[kept], y[kept])
