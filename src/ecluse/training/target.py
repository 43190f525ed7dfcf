"""The target as numbers: 0/1 for a binary label, a class's position for a multi-class one, the value itself for a regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.model import Task

UNSEEN = -1


@dataclass(frozen=True)
class Target:
    """``values`` (n,): int64 codes (binary, multi-class) or float64. ``classes`` are those of the rows trained on, sorted; a held row
    of another class is coded ``UNSEEN`` and judged by nobody.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    classes: tuple[str, ...]

    def named(self, rows: npt.NDArray[np.bool_]) -> list[object]:
        """The target of some rows as people write it: booleans, class names or numbers."""
        chosen = self.values[rows].tolist()
        if self.classes:
            return [self.classes[code] if code != UNSEEN else None for code in chosen]
        return [bool(v) for v in chosen] if self.values.dtype == np.int64 else chosen


def make_target(y: pl.Series, task: Task, trained: npt.NDArray[np.bool_]) -> Target:
    """The target of all rows; ``trained`` (n,) says which of them name the classes. No nulls (labels without a truth are not labels).

    >>> make_target(pl.Series(["b", "a", "c"]), "multiclass", np.array([True, True, False])).values.tolist()
    [1, 0, -1]
    """
    if task == "regression":
        return Target(y.cast(pl.Float64).to_numpy(), ())
    if task == "binary":
        return Target(y.cast(pl.Int64).to_numpy(), ())
    classes = sorted(y.filter(pl.Series(trained)).unique().to_list())
    codes = y.replace_strict(classes, list(range(len(classes))), default=UNSEEN, return_dtype=pl.Int64)
    return Target(codes.to_numpy(), tuple(classes))
