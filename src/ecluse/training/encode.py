"""Encoding rows: the matrix of doubles every scorer reads, and the frame scikit-learn reads. Both from the same table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.errors import InvalidInput
from ecluse.core.schema import Feature


def encode(frame: pl.DataFrame, features: Sequence[Feature]) -> npt.NDArray[np.float64]:
    """The encoded matrix, double [n, F], columns in the order of ``features``; one pass over each column.

    A number is itself, a boolean 0/1, a category its position among the feature's categories and -1 when it is none of
    them; null and NaN are NaN. Raises InvalidInput when a column is missing or not of its kind.

    >>> frame = pl.DataFrame({"age": [40, None], "plan": ["Gold", "Silver"]})
    >>> encode(frame, [Feature("age", "number"), Feature("plan", "category", ("Basic", "Gold"))]).tolist()
    [[40.0, 1.0], [nan, -1.0]]
    """
    matrix = np.empty((frame.height, len(features)), dtype=np.float64)
    for i, feature in enumerate(features):
        series = _column(frame, feature)
        coded = _codes(series, feature) if feature.kind == "category" else series
        matrix[:, i] = coded.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return matrix


def model_frame(frame: pl.DataFrame, features: Sequence[Feature]) -> pl.DataFrame:
    """What scikit-learn sees: numbers and booleans as Float64 with NaN for null, categories as String with null.

    >>> model_frame(pl.DataFrame({"age": [40, None]}), [Feature("age", "number")])["age"].to_list()
    [40.0, nan]
    """
    columns = []
    for feature in features:
        series = _column(frame, feature)
        if feature.kind != "category":
            series = series.cast(pl.Float64).fill_null(np.nan)
        columns.append(series.rename(feature.name))
    return pl.DataFrame(columns)


def _column(frame: pl.DataFrame, feature: Feature) -> pl.Series:
    if feature.name not in frame.columns:
        raise InvalidInput(f"no column {feature.name!r}", where="training table", cure="check the feature's view")
    series = frame[feature.name]
    if feature.kind == "category":
        if not (series.dtype.is_float() or series.dtype.is_nested()):
            return series.cast(pl.String)
    elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        return series
    raise InvalidInput(
        f"{feature.name!r} is {series.dtype}, not a {feature.kind}", where="training table", cure="check its column"
    )


def _codes(series: pl.Series, feature: Feature) -> pl.Series:
    words = pl.Series(feature.categories or (), dtype=pl.String)
    places = pl.Series(range(len(words)), dtype=pl.Float64)
    known = series.replace_strict(words, places, default=-1.0, return_dtype=pl.Float64)
    return pl.select(pl.when(series.is_null()).then(None).otherwise(known)).to_series()
