"""Evidence: everything the gates look at, gathered once. Values only: who gathered them, and where from, is not a gate's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.model import Task
from ecluse.core.schema import Schema

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Champion:
    """The version in Production, asked about the candidate's rows.

    ``answers`` (n,) or (n, K) in the order of the *candidate's* classes, None when it could not be asked: ``problem`` then says why.
    ``clean`` (n,): the rows it was surely not trained on; only these are compared.
    ``fresh`` (n,): rows whose truth was not known when it was trained.
    """

    number: int
    schema: Schema | None = None
    answers: Array | None = None
    clean: Mask | None = None
    threshold: float | None = None
    problem: str = ""
    fresh: Mask | None = None


@dataclass(frozen=True)
class Evidence:
    """A candidate's answers on n rows held out of its training, what is known about the rows, and the champion's answers on them.

    ``y`` (n,): 0/1, class codes or values; ``keys`` (n,): the entity of each row; ``answers``: (n,), or (n, K) for multi-class;
    ``inputs``: the features on those rows; ``segments``: by column, each row's value as text; ``train``: metrics on the rows trained on,
    taken at ``trained_threshold``; ``threshold``: the one that will serve. ``overlap`` counts what is on both sides of the split:
    entities when it is by entity, rows when it is by time. ``left_out``: rows of a class the candidate does not know.
    ``at`` (n,): the label moments, UTC microseconds.
    ``latency_ms``: of scoring one row, the 99th percentile over rows. ``reproduced``: None when nobody trained it a second time.
    """

    task: Task
    judged_by: str
    y: Array
    keys: npt.NDArray[np.str_]
    answers: Array
    schema: Schema
    inputs: pl.DataFrame
    latency_ms: float
    bundle_bytes: int
    champion: Champion | None = None
    threshold: float | None = None
    trained_threshold: float | None = None
    costs: Mapping[str, float] | None = None
    train: Mapping[str, float | None] = field(default_factory=dict)
    segments: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    overlap: int = 0
    overlap_of: Literal["entities", "rows"] = "entities"
    left_out: int = 0
    at: Array | None = None
    reproduced: bool | None = None
    seed: int = 0

    @property
    def rows(self) -> int:
        """How many rows are judged on."""
        return len(self.y)
