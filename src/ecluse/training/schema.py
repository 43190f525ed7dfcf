"""The schema of a version: the scorer's inputs with the categories it was trained on, and the contract of what a caller may send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from ecluse.core.contract import Category, Column, Integer, Number
from ecluse.core.errors import InvalidInput
from ecluse.core.model import Model
from ecluse.core.schema import Feature, Schema, StoredView
from ecluse.core.view import Aggregation, FeatureView

_COUNTS = ("count", "distinct")


def make_features(model: Model, trained: pl.DataFrame) -> tuple[Feature, ...]:
    """The scorer's inputs in order (``model.input_kinds``); categories are the values of the rows trained on, sorted."""
    found = []
    for name, kind in model.input_kinds.items():
        assert kind != "instant"
        words = tuple(sorted(trained[name].drop_nulls().unique().to_list())) if kind == "category" else None
        found.append(Feature(name, kind, words))
    return tuple(found)


def declared_features(model: Model) -> tuple[Feature, ...]:
    """The inputs of a model trained elsewhere: categories are the declared values, sorted. Raises InvalidInput where none are declared."""
    columns = make_columns(model)
    found = []
    for name, kind in model.input_kinds.items():
        assert kind != "instant"
        column = columns.get(name)
        words = column.values if isinstance(column, Category) else ()
        if kind == "category" and not words:
            raise InvalidInput(
                f"category `{name}` has no declared values",
                where=f"model {model.name}",
                cure="declare Category([...]) for an ONNX file",
            )
        found.append(Feature(name, kind, tuple(sorted(words)) if kind == "category" else None))
    return tuple(found)


def make_schema(model: Model, features: Sequence[Feature], classes: Sequence[str]) -> Schema:
    """Everything a worker needs to know of the model's inputs and outputs."""
    views = tuple(StoredView(v.name, v.table.key, dict(v.kinds), v.ttl, v.missing) for v in model.features)
    return Schema(
        model=model.name,
        task=model.task,
        features=tuple(features),
        views=views,
        columns=make_columns(model),
        request=tuple(sorted(model.request)),
        derived=dict(sorted(model.derived.items())),
        accepts=model.accepts,
        classes=tuple(classes),
    )


def make_columns(model: Model) -> dict[str, Column]:
    """The contract of every raw input by name: of the table's column where a feature is its last value, of the aggregation elsewhere."""
    columns = {name: _column(view, each) for view in model.features for name, each in view.features.items()}
    return dict(sorted((columns | dict(model.request)).items()))


def _column(view: FeatureView, aggregation: Aggregation) -> Column:
    if aggregation.function in _COUNTS or aggregation.column is None:
        return Integer(min=0, nulls=_nulls(view, 0.0))
    source = view.table.columns[aggregation.column]
    if aggregation.function == "last":
        return replace(source, nulls=_nulls(view, source.nulls))
    if aggregation.function == "total":
        return Number(min=_total_floor(source), nulls=_nulls(view, 0.0))
    low, high = (source.min, source.max) if isinstance(source, Number | Integer) else (None, None)
    return Number(min=low, max=high, nulls=1.0)  # a mean, lowest or highest of an empty window is missing


def _nulls(view: FeatureView, own: float) -> float:
    """Where serving accepts an entity without a row, a caller may leave the value out too."""
    return 1.0 if view.missing == "accept" else own


def _total_floor(source: Column) -> float | None:
    return 0.0 if isinstance(source, Number | Integer) and source.min is not None and source.min >= 0 else None
