"""View: all features of a model at the moments asked for: stored views, request fields, derived features."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.model import Model
from ecluse.core.view import FeatureView
from ecluse.features.as_of import DTYPES, view_as_of
from ecluse.frames.expression import to_number

EVENT = "__event:"  # + view: the event time of the row the view's features are from


def feature_frame(model: Model, asks: pl.DataFrame, histories: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Every feature of a model for each row of ``asks``, in their order.

    ``asks``: ``__key`` String, ``__at`` Datetime("us", "UTC"), the model's request fields, and ``__key:<entity>`` for views of another
    entity than the label's. ``histories``: the frames of the views' tables by name. Returns ``__key``, ``__at``, every stored feature and
    request field, every derived feature (Float64), and ``__event:<view>`` (null: no live row). Raises InvalidInput for a missing
    column, NotFound for a missing table.
    """
    columns = [*(_request_field(model, name, asks) for name in model.request)]
    for view in model.features:
        if view.table.name not in histories:
            raise NotFound(f"table {view.table.name} has no rows", where=f"view {view.name}", cure="ingest it first")
        found = view_as_of(histories[view.table.name], view, _asks_of(view, model, asks))
        columns += [found[name] for name in view.features] + [found["__event"].alias(EVENT + view.name)]
    raw = pl.DataFrame([asks["__key"], asks["__at"], *columns])
    kinds = model.raw_kinds
    return raw.with_columns(to_number(node, kinds).alias(name) for name, node in model.derived.items())


def model_inputs(model: Model) -> list[str]:
    """The estimator's inputs in their order."""
    return list(model.input_kinds)


def _asks_of(view: FeatureView, model: Model, asks: pl.DataFrame) -> pl.DataFrame:
    entity = view.table.key
    column = "__key" if entity == model.predicts.table.key else f"__key:{entity.name}"
    if column not in asks.columns:
        raise InvalidInput(
            f"no key of {entity.name} for view {view.name}",
            where=f"model {model.name}",
            cure=f"give a column `{column}` with it",
        )
    return asks.select(pl.col(column).alias("__key"), "__at")


def _request_field(model: Model, name: str, asks: pl.DataFrame) -> pl.Series:
    if name not in asks.columns:
        raise InvalidInput(
            f"request field `{name}` is missing",
            where=f"model {model.name}",
            cure=f"add `{name}` as a column of the label's table or of the rows asked about",
        )
    return asks[name].cast(DTYPES[model.raw_kinds[name]])
