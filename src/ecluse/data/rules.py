"""Rules across columns: where a declared condition does not hold."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ecluse.core.contract import Boolean, Column, Instant, Integer, Number
from ecluse.core.expression import Node
from ecluse.core.view import FeatureKind
from ecluse.frames.expression import to_condition


def violated(condition: Node, columns: Mapping[str, Column]) -> pl.Expr:
    """True where a condition over the typed frame is false; null (a value it reads is missing) passes. ``as_of`` reads ``__at``.

    Raises DeclarationError when it is no condition.
    """
    return ~to_condition(condition, {name: _kind(column) for name, column in columns.items()})


def _kind(column: Column) -> FeatureKind:
    if isinstance(column, Number | Integer):
        return "number"
    if isinstance(column, Instant):
        return "instant"
    return "boolean" if isinstance(column, Boolean) else "category"
