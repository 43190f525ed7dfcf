"""Expressions over a table: the polars twin of ``core.expression.evaluate``, equal to it on every row (proved by hypothesis).

Rules across columns (``data/``) and derived features (``features/``) are read by this one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from ecluse.core.errors import DeclarationError
from ecluse.core.expression import Binary, Constant, Node, Ref, Unary
from ecluse.core.instants import to_micros
from ecluse.core.view import FeatureKind

AT = "__at"  # the column `as_of` reads
_DAY_MICROS = 86_400_000_000.0
_FIRST = float(to_micros(datetime.fromisoformat("0001-01-01T00:00:00+00:00")))
_END = float(to_micros(datetime.fromisoformat("9999-12-31T23:59:59.999999+00:00"))) + 1.0

_Kind = Literal["number", "boolean", "text"]
_CALENDAR: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda moment: moment.dt.year(),
    "month": lambda moment: moment.dt.month(),
    "day": lambda moment: moment.dt.day(),
    "weekday": lambda moment: moment.dt.weekday(),
    "hour": lambda moment: moment.dt.hour(),
}


@dataclass(frozen=True)
class _Typed:
    """A polars expression (Float64, Boolean or String) and which of them it is."""

    expression: pl.Expr
    kind: _Kind


def to_polars(node: Node, kinds: Mapping[str, FeatureKind]) -> pl.Expr:
    """The expression over columns of these kinds: Float64 (instants as microseconds), Boolean or String.

    ``as_of`` reads the column ``__at`` (:data:`AT`, an instant). Raises DeclarationError for text in arithmetic and for an unknown name.

    >>> from ecluse.core.expression import feature
    >>> frame = pl.DataFrame({"tickets": [3.0, 1.0], "months": [2.0, 0.0]})
    >>> frame.select(to_polars(feature("tickets") / feature("months"), {"tickets": "number", "months": "number"}))[
    ...     "tickets"
    ... ].to_list()
    [1.5, None]
    """
    return _build(node, kinds).expression


def to_condition(node: Node, kinds: Mapping[str, FeatureKind]) -> pl.Expr:
    """The expression as Boolean. Raises DeclarationError when it is no condition."""
    typed = _build(node, kinds)
    if typed.kind != "boolean":
        raise DeclarationError(
            f"a rule that is a {typed.kind}", where="project.py", cure="write a comparison, such as col(...) >= 0"
        )
    return typed.expression


def to_number(node: Node, kinds: Mapping[str, FeatureKind]) -> pl.Expr:
    """The expression as Float64 (true is 1). Raises DeclarationError when it is text: a derived feature is a number."""
    return _number(_build(node, kinds))


def _build(node: Node, kinds: Mapping[str, FeatureKind]) -> _Typed:
    if isinstance(node, Ref):
        return _reference(node.name, kinds)
    if isinstance(node, Constant):
        return _constant(node.value)
    if isinstance(node, Unary):
        return _unary(node.op, _build(node.operand, kinds))
    left, right = _build(node.left, kinds), _build(node.right, kinds)
    if node.op in ("and", "or"):
        return _logic(node.op, _boolean(left, node.op), _boolean(right, node.op))
    if node.op in ("==", "!="):
        return _equality(node, left, right)
    return _binary(node.op, _number(left), _number(right))


def _reference(name: str, kinds: Mapping[str, FeatureKind]) -> _Typed:
    if name == "as_of":
        return _Typed(pl.col(AT).to_physical().cast(pl.Float64), "number")
    if name not in kinds:
        raise DeclarationError(f"unknown name `{name}`", where="expression", cure="names: " + ", ".join(kinds))
    kind, column = kinds[name], pl.col(name)
    if kind == "category":
        return _Typed(column, "text")
    if kind == "boolean":
        return _Typed(column, "boolean")
    return _Typed((column.to_physical() if kind == "instant" else column).cast(pl.Float64), "number")


def _constant(value: bool | float | str) -> _Typed:
    if isinstance(value, bool):
        return _Typed(_column(value, pl.Boolean()), "boolean")
    if isinstance(value, str):
        return _Typed(_column(value, pl.String()), "text")
    return _Typed(_column(float(value), pl.Float64()), "number")


def _truth(value: bool) -> pl.Expr:
    return _column(value, pl.Boolean())


def _column(value: bool | float | str | None, dtype: pl.DataType) -> pl.Expr:
    # as long as the table: polars (2.1) loses the height where a literal meets a column it has folded to one repeated value
    return pl.repeat(value, pl.len(), dtype=dtype)


def _number(typed: _Typed) -> pl.Expr:
    if typed.kind == "text":
        raise DeclarationError("text in arithmetic", where="expression", cure="compare text with .equals(...) only")
    return typed.expression.cast(pl.Float64)


def _boolean(typed: _Typed, op: str) -> pl.Expr:
    if typed.kind != "boolean":
        raise DeclarationError(f"a {typed.kind} under `{op}`", where="expression", cure="combine comparisons")
    return typed.expression


def _logic(op: str, a: pl.Expr, b: pl.Expr) -> _Typed:
    decisive = _truth(op == "or")
    decided = a.eq_missing(decisive) | b.eq_missing(decisive)
    undecided = pl.when(a.is_null() | b.is_null()).then(_column(None, pl.Boolean())).otherwise(_truth(op != "or"))
    return _Typed(pl.when(decided).then(decisive).otherwise(undecided), "boolean")


def _equality(node: Binary, left: _Typed, right: _Typed) -> _Typed:
    if (left.kind == "text") != (right.kind == "text"):  # text is never equal to a number
        missing = left.expression.is_null() | right.expression.is_null()
        differs = pl.when(missing).then(_column(None, pl.Boolean())).otherwise(_truth(node.op == "!="))
        return _Typed(differs, "boolean")
    both = left.expression, right.expression
    a, b = both if left.kind == right.kind else (_number(left), _number(right))
    return _Typed(a == b if node.op == "==" else a != b, "boolean")


def _binary(op: str, a: pl.Expr, b: pl.Expr) -> _Typed:
    if op == "/":
        return _Typed(_finite(pl.when(b != 0.0).then(_divide(a, b))), "number")
    if op in ("+", "-", "*"):
        return _Typed(_finite({"+": a + b, "-": a - b, "*": a * b}[op]), "number")
    return _Typed({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op], "boolean")


def _unary(op: str, operand: _Typed) -> _Typed:
    if op == "is_missing":
        return _Typed(operand.expression.is_null(), "boolean")
    if op == "not":
        return _Typed(_boolean(operand, op).not_(), "boolean")
    x = _number(operand)
    if op in _CALENDAR:
        return _Typed(_calendar(op, x), "number")
    if op == "log":
        return _Typed(pl.when(x > 0).then(x.log()), "number")
    if op == "log1p":
        return _Typed(pl.when(x > -1).then(x.log1p()), "number")
    if op == "sqrt":
        return _Typed(pl.when(x >= 0).then(x.sqrt()), "number")
    return _Typed({"-": -x, "abs": x.abs(), "days": _divide(x, _constant(_DAY_MICROS).expression)}[op], "number")


def _calendar(op: str, micros: pl.Expr) -> pl.Expr:
    inside = pl.when((micros >= _FIRST) & (micros < _END)).then(micros)  # the years 1 to 9999 of Python's calendar
    moment = inside.cast(pl.Int64).cast(pl.Datetime("us"))
    return _CALENDAR[op](moment).cast(pl.Float64)


def _divide(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    # polars (2.1) divides a column by a scalar as a product with its reciprocal: the last bit of every fourth quotient differs from
    # what serving computes. Adding 0 times the dividend makes the divisor a column without changing it.
    return a / (b + a * 0.0)


def _finite(expression: pl.Expr) -> pl.Expr:
    return pl.when(expression.is_finite()).then(expression)
