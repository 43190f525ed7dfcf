"""Rules across columns: a declared condition as a polars expression over the typed frame, equal to ``core.expression.evaluate`` row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from ecluse.core.contract import Boolean, Column, Instant, Integer, Number
from ecluse.core.errors import DeclarationError
from ecluse.core.expression import Binary, Constant, Node, Ref, Unary
from ecluse.core.instants import to_micros

Kind = Literal["number", "boolean", "text"]
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_DAY_MICROS = 86_400_000_000


@dataclass(frozen=True)
class _Typed:
    kind: Kind
    expr: pl.Expr


def violated(condition: Node, columns: Mapping[str, Column], as_of: datetime) -> pl.Expr:
    """True where a condition is false; null (a value it reads is missing) passes. Raises DeclarationError when it is no condition.

    Columns are read as declared: Number and Integer as float64, Instant as UTC microseconds; ``as_of`` is the ingest's.
    """
    read = _translate(condition, columns, as_of)
    if read.kind != "boolean":
        raise DeclarationError(
            f"a rule that is a {read.kind}", where="project.py", cure="write a comparison, such as col(...) >= 0"
        )
    return ~read.expr


def _translate(node: Node, columns: Mapping[str, Column], as_of: datetime) -> _Typed:
    if isinstance(node, Ref):
        return (
            _Typed("number", pl.lit(float(to_micros(as_of)))) if node.name == "as_of" else _column(node.name, columns)
        )
    if isinstance(node, Constant):
        return _constant(node.value)
    if isinstance(node, Unary):
        return _unary(node, _translate(node.operand, columns, as_of))
    left, right = _translate(node.left, columns, as_of), _translate(node.right, columns, as_of)
    return _binary(node, left, right)


def _column(name: str, columns: Mapping[str, Column]) -> _Typed:
    column, expr = columns[name], pl.col(name)
    if isinstance(column, Number | Integer):
        return _Typed("number", expr.cast(pl.Float64))
    if isinstance(column, Instant):
        return _Typed("number", expr.dt.timestamp("us").cast(pl.Float64))
    return _Typed("boolean" if isinstance(column, Boolean) else "text", expr)


def _constant(value: bool | float | str) -> _Typed:
    if isinstance(value, bool):
        return _Typed("boolean", pl.lit(value))
    return _Typed("text", pl.lit(value)) if isinstance(value, str) else _Typed("number", pl.lit(float(value)))


def _binary(node: Binary, left: _Typed, right: _Typed) -> _Typed:
    if node.op in ("and", "or"):
        a, b = _boolean(left, node.op), _boolean(right, node.op)
        return _Typed("boolean", a & b if node.op == "and" else a | b)
    if node.op in ("==", "!="):
        return _Typed("boolean", _equal(left, right) if node.op == "==" else ~_equal(left, right))
    a, b = _number(left, node.op), _number(right, node.op)
    compare = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
    if node.op in compare:
        return _Typed("boolean", compare[node.op])
    return _Typed("number", _finite({"+": a + b, "-": a - b, "*": a * b, "/": a / b}[node.op]))


def _equal(left: _Typed, right: _Typed) -> pl.Expr:
    if (left.kind == "text") != (right.kind == "text"):  # a text is never a number, but missing is still missing
        return pl.when(left.expr.is_not_null() & right.expr.is_not_null()).then(pl.lit(value=False))
    if left.kind == "text":
        return left.expr == right.expr
    return left.expr.cast(pl.Float64) == right.expr.cast(pl.Float64)


def _unary(node: Unary, operand: _Typed) -> _Typed:
    if node.op == "is_missing":
        return _Typed("boolean", operand.expr.is_null())
    if node.op == "not":
        return _Typed("boolean", ~_boolean(operand, "not"))
    x = _number(operand, node.op)
    if node.op in _FUNCTIONS:
        return _Typed("number", _FUNCTIONS[node.op](x))
    inside = (x >= to_micros(_FIRST)) & (x <= to_micros(_LAST))
    moment = pl.when(inside).then(x).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    return _Typed("number", getattr(moment.dt, node.op)().cast(pl.Float64))


_FUNCTIONS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "-": lambda x: -x,
    "abs": lambda x: x.abs(),
    "log": lambda x: pl.when(x > 0).then(x).log(math.e),
    "log1p": lambda x: pl.when(x > -1).then(x).log1p(),
    "sqrt": lambda x: pl.when(x >= 0).then(x).sqrt(),
    "days": lambda x: x / _DAY_MICROS,
}


def _finite(value: pl.Expr) -> pl.Expr:
    return pl.when(value.is_finite()).then(value)


def _number(value: _Typed, op: str) -> pl.Expr:
    if value.kind == "text":
        raise DeclarationError(f"text under `{op}`", where="project.py", cure="compare text with .equals(...) only")
    return value.expr.cast(pl.Float64)


def _boolean(value: _Typed, op: str) -> pl.Expr:
    if value.kind != "boolean":
        raise DeclarationError(f"a {value.kind} under `{op}`", where="project.py", cure="combine comparisons")
    return value.expr
