"""Parity: does the packaged scorer answer what the fitted estimator answers, on held rows and on rows made to be awkward?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.errors import InvalidInput
from ecluse.core.schema import Feature
from ecluse.core.verdict import Finding, Outcome, at_most
from ecluse.training.encode import encode, model_frame

Array = npt.NDArray[np.float64]
Predict = Callable[[pl.DataFrame], npt.NDArray[Any]]

_MISSING, _UNSEEN, _UNSEEN_WORD = 0.05, 0.05, "\x00never seen"
_BATCH = 65_536


class Scores(Protocol):
    """The scorer under test: encoded matrix double [n, F] in, answers double [n, K] out."""

    def score(self, matrix: Array) -> Array:
        """Answers for the rows."""
        ...


@dataclass(frozen=True)
class Parity:
    """What was compared. ``label_flips`` counts rows decided differently, without those ``at_edge``.

    A row at the edge lies within ``limit`` of the threshold in both answers, where the last bit decides. Thresholds set
    between two scores, not on one, have none.
    """

    rows: int
    held: int
    max_difference: float
    label_flips: int
    at_edge: int
    limit: float
    missing_tried: tuple[str, ...]
    unseen_tried: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True when every row was answered alike: difference within the limit, no decision changed."""
        return self.max_difference <= self.limit and self.label_flips == 0

    def findings(self) -> tuple[Finding, ...]:
        """The comparison as findings of a Verdict."""
        flips = self.label_flips
        outcome = Outcome.FAILED if flips else Outcome.PASSED
        return (
            at_most("parity", self.max_difference, self.limit, subject="largest difference"),
            Finding("parity", outcome, f"{flips} of {self.rows} rows are decided differently", flips, 0, "decisions"),
        )


def parity(
    estimator_predict: Predict,
    scorer: Scores,
    frame: pl.DataFrame,
    features: Sequence[Feature],
    *,
    at_least: int = 10_000,
    threshold: float | None = None,
    seed: int = 0,
    limit: float = 1e-9,
) -> Parity:
    """Compare the estimator's answers [n] or [n, K] with the scorer's over all rows of ``frame`` and drawn ones.

    The held rows are filled up to ``at_least`` with seeded rows: each column drawn on its own from its observed values and
    range, with nulls and unseen categories where the estimator accepts them, and mixtures of the pairs of rows whose
    answers enclose ``threshold``. NaN answers of both are equal; of one, an infinite difference. Raises InvalidInput
    without held rows.
    """
    if not frame.height:
        raise InvalidInput("no held rows to compare on", where="parity", cure="hold rows out for validation")
    held = model_frame(frame, features)
    missing = _accepted(estimator_predict, held, {f.name: _null(f) for f in features})
    unseen = _accepted(estimator_predict, held, {f.name: _UNSEEN_WORD for f in features if f.kind == "category"})
    rows = pl.concat([held, _near_threshold(scorer, held, features, threshold, seed)])
    if rows.height < at_least:
        rows = pl.concat([rows, draw(held, features, at_least - rows.height, seed, missing=missing, unseen=unseen)])
    told = _columns(np.concatenate([np.asarray(estimator_predict(part)) for part in rows.iter_slices(_BATCH)]))
    scored = scorer.score(encode(rows, features))
    flips, edge = _flips(told, scored, threshold, limit)
    return Parity(rows.height, held.height, difference(told, scored), flips, edge, limit, missing, unseen)


def difference(told: Array, scored: Array) -> float:
    """The largest absolute difference of two arrays [n, K]; infinite when shapes or NaN places differ.

    >>> difference(np.array([[0.25], [np.nan]]), np.array([[0.5], [np.nan]]))
    0.25
    """
    if told.shape != scored.shape or not np.array_equal(np.isnan(told), np.isnan(scored)):
        return math.inf
    with np.errstate(invalid="ignore"):  # inf - inf: equal infinities
        gap = np.where(told == scored, 0.0, np.abs(told - scored))
    return float(np.nanmax(gap, initial=0.0))


def draw(
    held: pl.DataFrame,
    features: Sequence[Feature],
    count: int,
    seed: int,
    *,
    missing: Sequence[str] = (),
    unseen: Sequence[str] = (),
) -> pl.DataFrame:
    """``count`` seeded rows, every column drawn apart: numbers half from observed values, half uniform in their range."""
    rng = np.random.default_rng(seed)
    columns = []
    for feature in features:
        series = held[feature.name]
        picked = series.gather(rng.integers(0, series.len(), count))
        if feature.kind == "number":
            picked = _spread(series, picked, rng)
        picked = _sprinkle(picked, rng.random(count) < _MISSING, _null(feature)) if feature.name in missing else picked
        picked = _sprinkle(picked, rng.random(count) < _UNSEEN, _UNSEEN_WORD) if feature.name in unseen else picked
        columns.append(picked.rename(feature.name))
    return pl.DataFrame(columns)


def _spread(series: pl.Series, picked: pl.Series, rng: np.random.Generator) -> pl.Series:
    observed = series.to_numpy()
    finite = observed[np.isfinite(observed)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if not np.isfinite(high - low):
        low, high = low / 2, high / 2  # their distance is more than a double holds
    uniform = rng.uniform(low, high, len(picked))
    return pl.Series(np.where(rng.random(len(picked)) < 0.5, uniform, picked.to_numpy()))


def _sprinkle(series: pl.Series, where: npt.NDArray[np.bool_], value: float | str | None) -> pl.Series:
    filled = pl.Series([value], dtype=series.dtype)
    return pl.select(pl.when(pl.Series(where)).then(filled).otherwise(series)).to_series()


def _null(feature: Feature) -> float | None:
    return None if feature.kind == "category" else math.nan


def _accepted(predict: Predict, held: pl.DataFrame, values: Mapping[str, float | str | None]) -> tuple[str, ...]:
    """The columns whose value the estimator answers, instead of raising ValueError or answering NaN.

    All are tried in one call, since a call of a large forest costs more than its rows; one by one where that is refused.
    """
    row = held.head(1)
    changed = [row.with_columns(pl.lit(value, dtype=row.schema[name]).alias(name)) for name, value in values.items()]
    if not changed or _answers(predict, pl.concat(changed)):
        return tuple(values)
    return tuple(name for name, one in zip(values, changed, strict=True) if _answers(predict, one))


def _answers(predict: Predict, rows: pl.DataFrame) -> bool:
    try:
        return not bool(np.isnan(np.asarray(predict(rows), dtype=np.float64)).any())
    except ValueError:
        return False


def _near_threshold(
    scorer: Scores, held: pl.DataFrame, features: Sequence[Feature], threshold: float | None, seed: int
) -> pl.DataFrame:
    """Rows close to the decision: numbers halved between held rows on either side of the threshold, 40 times.

    The scorer leads the way: it is a thousand times faster, and where it leads is compared afterwards like all rows.
    """
    sample = held.sample(min(held.height, 512), seed=seed)
    names = [feature.name for feature in features if feature.kind == "number"]
    if threshold is None or not names:
        return held.clear()
    answers = _columns(scorer.score(encode(sample, features)))[:, 0]
    below, above = np.flatnonzero(answers < threshold), np.flatnonzero(answers >= threshold)
    pairs = min(len(below), len(above), 64)
    base = sample[below[:pairs].tolist()]
    low, high = (sample[part[:pairs].tolist()].select(names).to_numpy().copy() for part in (below, above))
    matrix = encode(base, features)
    columns = [i for i, feature in enumerate(features) if feature.kind == "number"]  # encoded as they are
    for _ in range(40 if pairs else 0):
        middle = (low + high) / 2.0
        matrix[:, columns] = middle
        is_above = _columns(scorer.score(matrix))[:, :1] >= threshold
        low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
    return pl.concat([_with_numbers(base, names, low), _with_numbers(base, names, high)])


def _with_numbers(base: pl.DataFrame, names: list[str], values: Array) -> pl.DataFrame:
    return base.with_columns(pl.Series(name, values[:, i]) for i, name in enumerate(names))


def _flips(told: Array, scored: Array, threshold: float | None, limit: float) -> tuple[int, int]:
    """Rows decided differently: (beyond the edge, at the edge). Several columns are decided by the largest."""
    if told.shape != scored.shape:
        return len(told), 0
    if told.shape[1] > 1:
        differs = told.argmax(axis=1) != scored.argmax(axis=1)
        top = np.sort(told, axis=1)
        close = top[:, -1] - top[:, -2] <= limit
    elif threshold is not None:
        differs = (told[:, 0] >= threshold) != (scored[:, 0] >= threshold)
        close = np.maximum(np.abs(told[:, 0] - threshold), np.abs(scored[:, 0] - threshold)) <= limit
    else:
        return 0, 0
    return int((differs & ~close).sum()), int((differs & close).sum())


def _columns(answers: npt.NDArray[Any]) -> Array:
    array = np.asarray(answers, dtype=np.float64)
    return array.reshape(-1, 1) if array.ndim == 1 else array
