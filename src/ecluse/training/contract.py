"""The contract of the joined training frame: rows, positives or rows per class, held-out rows to judge on, missing share per view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.model import Task
from ecluse.core.settings import Frame
from ecluse.core.verdict import Finding, Verdict, at_least, at_most, judge
from ecluse.training.target import Target

Mask = npt.NDArray[np.bool_]
EVENT = "__event:"


def judge_frame(
    model: str,
    task: Task,
    frame: pl.DataFrame,
    target: Target,
    trained: Mask,
    held: Mask,
    views: Sequence[str],
    limits: Frame,
) -> Verdict:
    """Whether ``model`` may be trained: a finding per limit of ``[training.frame]``; a frame that is too small fails, it does not raise.

    ``frame`` has a column ``__event:<view>`` per view, null where the entity had no live row.
    """
    found = [
        at_least("frame.rows", int(trained.sum()), limits.rows, subject="rows to train on"),
        at_least("frame.held_out", int(held.sum()), 1, subject="rows held out"),
        *_classes(task, target, trained, "trained on", limits.positives),
        *_classes(task, target, held, "held out", 1),
        *_missing(frame, trained, views, limits.missing),
    ]
    return judge(f"may {model} be trained on these rows", found)


def _classes(task: Task, target: Target, rows: Mask, what: str, least: int) -> Iterator[Finding]:
    if task == "regression":
        return
    names = target.classes or ("negatives", "positives")
    check = "frame.positives" if task == "binary" else "frame.classes"
    if task == "multiclass" and what == "trained on":
        yield at_least(check, len(names), 2, subject="classes trained on")
    if task == "multiclass" and what == "held out":
        return  # a rare class may be absent among the held-out rows; its metrics then say so
    for code, name in enumerate(names):
        yield at_least(check, int((target.values[rows] == code).sum()), least, subject=f"{name} {what}")


def _missing(frame: pl.DataFrame, trained: Mask, views: Sequence[str], limit: float) -> Iterator[Finding]:
    rows = frame.filter(pl.Series(trained))
    for view in views:
        share = rows[EVENT + view].is_null().mean() if rows.height else float("nan")
        assert isinstance(share, float)
        yield at_most("frame.missing", share, limit, subject=f"share of rows without {view}")
