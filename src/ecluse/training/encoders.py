"""Encoders for users' projects: one line that makes any table of numbers and words readable to an estimator."""

from __future__ import annotations

from typing import Any, Literal

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def encoder(numbers: Any = "passthrough") -> ColumnTransformer:
    """One-hot for text columns, ``numbers`` (a transformer, "passthrough" or "drop") for the rest; for trees.

    A word never seen in training and a missing one are zeros everywhere, unless missing was seen in training, when it is a
    word like the others.

    >>> import polars as pl
    >>> encoder().fit_transform(pl.DataFrame({"age": [1.0, 2.0], "plan": ["Gold", "Basic"]})).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 2.0]]
    """
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [("words", words, text_columns), ("numbers", numbers, number_columns)]
    return ColumnTransformer(steps, remainder="drop", verbose_feature_names_out=False)


def scaled_encoder(strategy: Literal["median", "mean"] = "median") -> ColumnTransformer:
    """Like ``encoder``, with missing numbers filled and all numbers scaled to mean 0, deviation 1; for linear models."""
    return encoder(make_pipeline(SimpleImputer(strategy=strategy, keep_empty_features=True), StandardScaler()))


def text_columns(frame: Any) -> list[str]:
    """The names of a polars frame's text columns; none for an array."""
    schema = getattr(frame, "schema", None)
    return (
        []
        if schema is None
        else [name for name, dtype in schema.items() if str(dtype) in ("String", "Categorical", "Enum")]
    )


def number_columns(frame: Any) -> list[str] | list[int]:
    """All other columns: names of a polars frame, positions of an array."""
    schema = getattr(frame, "schema", None)
    if schema is None:
        return list(range(frame.shape[1]))
    words = set(text_columns(frame))
    return [name for name in schema if name not in words]
