"""Scalers and other steps over numbers: scaling, imputing, polynomials; the same operations in the same order as scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecluse.core.errors import Unsupported
from ecluse.training.compile.column import Column, Columns, Source
from ecluse.training.compile.columns import numbers, spread, truth
from ecluse.training.compile.encoders import text_imputer
from ecluse.training.compile.graph import Graph


def scale(graph: Graph, scaler: Any, columns: Columns) -> Columns:
    """StandardScaler, RobustScaler and MaxAbsScaler: subtract, then divide (bit for bit what scikit-learn does)."""
    x = numbers(graph, columns, type(scaler).__name__)
    centre = getattr(scaler, "mean_", None) if getattr(scaler, "with_mean", False) else getattr(scaler, "center_", None)
    if centre is not None:
        x = graph.node("Sub", x, graph.constant(np.asarray(centre, dtype=np.float64)))
    if scaler.scale_ is not None:
        x = graph.node("Div", x, graph.constant(np.asarray(scaler.scale_, dtype=np.float64)))
    if getattr(scaler, "clip", False):
        x = clip(graph, x, -1.0, 1.0)
    return spread(x, columns)


def scale_range(graph: Graph, scaler: Any, columns: Columns) -> Columns:
    """MinMaxScaler: multiply, then add, then clip where asked."""
    x = graph.node("Mul", numbers(graph, columns, "MinMaxScaler"), graph.constant(scaler.scale_))
    x = graph.node("Add", x, graph.constant(scaler.min_))
    if scaler.clip:
        x = clip(graph, x, *map(float, scaler.feature_range))
    return spread(x, columns)


def clip(graph: Graph, x: str, low: float, high: float) -> str:
    """``x`` held between two numbers; NaN stays NaN (which ONNX leaves open for Min, Max and Clip)."""
    bottom, top = graph.constant(np.array(low)), graph.constant(np.array(high))
    width = graph.widths[x]
    x = graph.node("Where", graph.node("Less", x, bottom), bottom, x, width=width)
    return graph.node("Where", graph.node("Greater", x, top), top, x, width=width)


def impute(graph: Graph, imputer: Any, columns: Columns) -> Columns:
    """SimpleImputer, over numbers or over text; columns empty in training are dropped as scikit-learn does."""
    if columns and all(column.domain is not None for column in columns):
        return text_imputer(graph, imputer, columns)
    if not _is_nan(imputer.missing_values):
        cure = "use missing_values=nan: that is what a missing number is in Écluse"
        raise Unsupported(
            f"SimpleImputer(missing_values={imputer.missing_values!r})", where="training/compile", cure=cure
        )
    x = numbers(graph, columns, "SimpleImputer")
    fill = np.asarray(imputer.statistics_, dtype=np.float64)
    keep = [i for i, value in enumerate(fill) if not np.isnan(value)]
    missing = graph.node("IsNaN", x)
    filled = graph.node("Where", missing, graph.constant(fill), x, width=len(fill))
    out = tuple(column for i, column in enumerate(spread(filled, columns)) if i in keep)
    if not imputer.add_indicator:
        return out
    flags = spread(truth(graph, missing), columns)
    return out + tuple(flags[i] for i in imputer.indicator_.features_)


def polynomial(graph: Graph, step: Any, columns: Columns) -> Columns:
    """PolynomialFeatures: products taken from the last factor to the first, as scikit-learn builds them up."""
    x = numbers(graph, columns, "PolynomialFeatures")
    powers = step.powers_
    one = graph.node("Where", graph.node("IsNaN", x), graph.constant(np.array(1.0)), graph.constant(np.array(1.0)))
    padded = graph.node("Concat", x, _first(graph, one), axis=1, width=len(columns) + 1)
    factors = [np.repeat(np.arange(len(row)), row).tolist() for row in powers]
    degree = max(1, *(len(row) for row in factors))
    product = ""
    for position in range(degree):
        at = np.array([row[-1 - position] if position < len(row) else len(columns) for row in factors])
        factor = graph.node("Gather", padded, graph.constant(at), axis=1, width=len(factors))
        product = graph.node("Mul", factor, product) if product else factor
    return tuple(
        Column(product, i, f"product {i}", source=_source_of_product(tuple(columns[k] for k in factors[i])))
        for i in range(len(factors))
    )


def _source_of_product(factors: Columns) -> Source | None:
    """A product of one factor rises with it; of several, only tables stay what they are."""
    sources = {factor.source for factor in factors}
    source = sources.pop() if len(sources) == 1 else None
    return source if len(factors) == 1 or (source is not None and source.cuts is not None) else None


def _first(graph: Graph, x: str) -> str:
    return graph.node("Gather", x, graph.constant(np.array([0])), axis=1, width=1)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))
