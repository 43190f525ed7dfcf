"""FeatureView: named aggregations over one entity's rows, as of a moment, using only what was known then (DESIGN §3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from ecluse.core.contract import Boolean, Category, Column, Instant, Integer, Number, Table
from ecluse.core.errors import DeclarationError
from ecluse.core.instants import parse_duration

Function = Literal["last", "count", "total", "mean", "lowest", "highest", "distinct"]
FeatureKind = Literal["number", "boolean", "category", "instant"]


@dataclass(frozen=True)
class Aggregation:
    """One feature: a function over a column, within ``(t - over, t]``, or over everything known when ``over`` is None.

    ``last`` is the value of the latest event; ``count`` counts rows (or values of a column), ``total`` sums, ``distinct`` is exact.
    An empty window gives 0 for count, total and distinct, missing for the others. Missing values within a window are skipped,
    but ``last`` is the latest row's value even when that is missing.
    """

    function: Function
    column: str | None = None
    over: timedelta | None = None


def last(column: str) -> Aggregation:
    """The value of the latest event known."""
    return Aggregation("last", column)


def count(column: str | None = None, *, over: str) -> Aggregation:
    """How many rows (or values of ``column``) in the window."""
    return _over("count", column, over)


def total(column: str, *, over: str) -> Aggregation:
    """Sum over the window."""
    return _over("total", column, over)


def mean(column: str, *, over: str) -> Aggregation:
    """Mean over the window."""
    return _over("mean", column, over)


def lowest(column: str, *, over: str) -> Aggregation:
    """Minimum over the window."""
    return _over("lowest", column, over)


def highest(column: str, *, over: str) -> Aggregation:
    """Maximum over the window."""
    return _over("highest", column, over)


def distinct(column: str, *, over: str) -> Aggregation:
    """Exact number of different values in the window."""
    return _over("distinct", column, over)


def _over(function: Function, column: str | None, over: str) -> Aggregation:
    span = parse_duration(over, where="project.py")
    if span <= timedelta(0):
        raise DeclarationError(f"over={over!r}", where="project.py", cure="a window must be longer than nothing")
    return Aggregation(function, column, span)


@dataclass(frozen=True)
class FeatureView:
    """Features over one table.

    ``ttl`` is how old the latest event may be at the moment asked for (judged on event time), and how old an online value may be;
    None: for ever. ``missing`` says what serving does when the entity has no live row in the table: ``"refuse"`` the request,
    or ``"accept"`` it with missing features and an answer that says ``degraded``. Training keeps such rows in both cases.
    """

    name: str
    table: Table
    features: Mapping[str, Aggregation]
    ttl: timedelta | None = None
    missing: Literal["refuse", "accept"] = "refuse"
    kinds: Mapping[str, FeatureKind] = field(init=False, compare=False, metadata={"plain": False})

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "features", dict(self.features))
        if isinstance(self.ttl, str):
            set_(self, "ttl", parse_duration(self.ttl, where=f"view {self.name}"))
        if not self.name.isidentifier() or not self.features:
            raise DeclarationError(
                f"view {self.name!r}", where="project.py", cure="give it a plain name and at least one feature"
            )
        set_(self, "kinds", {name: self._kind(name, each) for name, each in self.features.items()})

    def _kind(self, name: str, aggregation: Aggregation) -> FeatureKind:
        where = f"project.py: view {self.name}, feature {name}"
        if aggregation.column is None:
            return "number"
        column = self.table.columns.get(aggregation.column)
        if column is None:
            raise DeclarationError(
                f"table {self.table.name} has no column `{aggregation.column}`",
                where=where,
                cure="columns: " + ", ".join(self.table.columns),
            )
        if aggregation.function in ("count", "distinct"):
            return "number"
        if aggregation.function == "last":
            return column_kind(column, where)
        if not isinstance(column, Number | Integer):
            raise DeclarationError(
                f"{aggregation.function} of {type(column).__name__}", where=where, cure="aggregate a Number or Integer"
            )
        return "number"


def column_kind(column: Column, where: str) -> FeatureKind:
    """The kind of feature a column gives. Raises DeclarationError for Text."""
    if isinstance(column, Number | Integer):
        return "number"
    if isinstance(column, Boolean):
        return "boolean"
    if isinstance(column, Category):
        return "category"
    if isinstance(column, Instant):
        return "instant"
    raise DeclarationError("Text cannot be a feature", where=where, cure="declare the column as Category")
