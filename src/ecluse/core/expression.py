"""Expressions over features: arithmetic, comparison, calendar and log, written with operators and kept as frozen values.

Two evaluators read them: :func:`evaluate` here (plain Python, for one request) and ``frames/expression.py`` (polars, for tables);
a property test proves them equal. Missing stays missing; a division by zero or the log of a non-positive number is missing.
Numbers are float64; instants are UTC microseconds; calendar parts are UTC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ecluse.core.codec import tagged
from ecluse.core.errors import DeclarationError

Value = float | bool | str | None
BinaryOp = Literal["+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=", "and", "or"]
UnaryOp = Literal[
    "-", "abs", "log", "log1p", "sqrt", "is_missing", "not", "year", "month", "day", "weekday", "hour", "days"
]

_DAY_MICROS = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Operators:
    """The operators users write; each returns a new frozen expression."""

    def __add__(self, other: object) -> Binary:
        return Binary("+", _node(self), _node(other))

    def __radd__(self, other: object) -> Binary:
        return Binary("+", _node(other), _node(self))

    def __sub__(self, other: object) -> Binary:
        return Binary("-", _node(self), _node(other))

    def __rsub__(self, other: object) -> Binary:
        return Binary("-", _node(other), _node(self))

    def __mul__(self, other: object) -> Binary:
        return Binary("*", _node(self), _node(other))

    def __rmul__(self, other: object) -> Binary:
        return Binary("*", _node(other), _node(self))

    def __truediv__(self, other: object) -> Binary:
        return Binary("/", _node(self), _node(other))

    def __rtruediv__(self, other: object) -> Binary:
        return Binary("/", _node(other), _node(self))

    def __lt__(self, other: object) -> Binary:
        return Binary("<", _node(self), _node(other))

    def __le__(self, other: object) -> Binary:
        return Binary("<=", _node(self), _node(other))

    def __gt__(self, other: object) -> Binary:
        return Binary(">", _node(self), _node(other))

    def __ge__(self, other: object) -> Binary:
        return Binary(">=", _node(self), _node(other))

    def equals(self, other: object) -> Binary:
        """``==`` as an expression (the operator itself compares expressions as values)."""
        return Binary("==", _node(self), _node(other))

    def differs(self, other: object) -> Binary:
        """``!=`` as an expression."""
        return Binary("!=", _node(self), _node(other))

    def __and__(self, other: object) -> Binary:
        return Binary("and", _node(self), _node(other))

    def __or__(self, other: object) -> Binary:
        return Binary("or", _node(self), _node(other))

    def __invert__(self) -> Unary:
        return Unary("not", _node(self))

    def __neg__(self) -> Unary:
        return Unary("-", _node(self))

    def __abs__(self) -> Unary:
        return Unary("abs", _node(self))

    def log(self) -> Unary:
        """Natural logarithm; missing for values <= 0."""
        return Unary("log", _node(self))

    def log1p(self) -> Unary:
        """log(1 + x); missing for x <= -1."""
        return Unary("log1p", _node(self))

    def sqrt(self) -> Unary:
        """Square root; missing for negative values."""
        return Unary("sqrt", _node(self))

    def is_missing(self) -> Unary:
        """True where the value is missing."""
        return Unary("is_missing", _node(self))

    def year(self) -> Unary:
        """Calendar year of an instant (UTC)."""
        return Unary("year", _node(self))

    def month(self) -> Unary:
        """Month 1-12 of an instant (UTC)."""
        return Unary("month", _node(self))

    def day(self) -> Unary:
        """Day of the month of an instant (UTC)."""
        return Unary("day", _node(self))

    def weekday(self) -> Unary:
        """ISO weekday 1 (Monday) to 7 of an instant (UTC)."""
        return Unary("weekday", _node(self))

    def hour(self) -> Unary:
        """Hour 0-23 of an instant (UTC)."""
        return Unary("hour", _node(self))

    def days(self) -> Unary:
        """Microseconds (a difference of two instants) as days."""
        return Unary("days", _node(self))


@tagged
@dataclass(frozen=True)
class Ref(Operators):
    """The value of a column, feature or request field; ``as_of`` is the moment the features are computed for."""

    name: str


@tagged
@dataclass(frozen=True)
class Constant(Operators):
    """A literal number, text or boolean."""

    value: bool | float | str


@tagged
@dataclass(frozen=True)
class Binary(Operators):
    """Two operands and an operator."""

    op: BinaryOp
    left: Node
    right: Node


@tagged
@dataclass(frozen=True)
class Unary(Operators):
    """One operand and a function."""

    op: UnaryOp
    operand: Node


Node = Ref | Constant | Binary | Unary


def feature(name: str) -> Ref:
    """The feature (or request field) of that name, to be used in an expression.

    >>> evaluate(feature("tickets") / feature("months"), {"tickets": 3.0, "months": 0.0}) is None
    True
    """
    return Ref(name)


col = feature
AS_OF = Ref("as_of")


def names(node: Node) -> frozenset[str]:
    """Every name the expression reads, without ``as_of``."""
    if isinstance(node, Ref):
        return frozenset() if node.name == "as_of" else frozenset((node.name,))
    if isinstance(node, Binary):
        return names(node.left) | names(node.right)
    if isinstance(node, Unary):
        return names(node.operand)
    return frozenset()


def evaluate(node: Node, values: Mapping[str, Value]) -> Value:
    """The value of an expression for one row; ``values`` holds every name it reads. Missing in, missing out.

    >>> evaluate((feature("a") + 1) * 2, {"a": 3.0})
    8.0
    """
    if isinstance(node, Ref):
        return values[node.name]
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Unary):
        return _unary(node.op, evaluate(node.operand, values))
    left, right = evaluate(node.left, values), evaluate(node.right, values)
    if node.op in ("and", "or"):
        return _logic(node.op, left, right)
    if left is None or right is None:
        return None
    if node.op in ("==", "!="):
        return (left == right) == (node.op == "==")
    return _binary(node.op, _number(left), _number(right))


def _logic(op: str, left: Value, right: Value) -> Value:
    decisive = op == "or"
    if left is decisive or right is decisive:
        return decisive
    return None if left is None or right is None else not decisive


def _binary(op: str, a: float, b: float) -> Value:
    if op == "/":
        return _finite(a / b) if b != 0.0 else None
    if op == "+":
        return _finite(a + b)
    if op == "-":
        return _finite(a - b)
    if op == "*":
        return _finite(a * b)
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]


def _unary(op: str, value: Value) -> Value:
    if op == "is_missing":
        return value is None
    if value is None:
        return None
    if op == "not":
        return not value
    x = _number(value)
    if op == "-":
        return -x
    if op == "abs":
        return abs(x)
    if op == "log":
        return math.log(x) if x > 0 else None
    if op == "log1p":
        return math.log1p(x) if x > -1 else None
    if op == "sqrt":
        return math.sqrt(x) if x >= 0 else None
    if op == "days":
        return x / _DAY_MICROS
    return _calendar(op, x)


def _calendar(op: str, micros: float) -> Value:
    try:
        moment = _EPOCH + timedelta(microseconds=int(micros))
    except OverflowError:
        return None
    return float(moment.isoweekday() if op == "weekday" else getattr(moment, op))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Value) -> float:
    if isinstance(value, str):
        raise DeclarationError(
            f"text {value!r} in arithmetic", where="derived feature", cure="compare text with .equals(...) only"
        )
    return float(value)  # type: ignore[arg-type]


def _node(value: object) -> Node:
    if isinstance(value, Ref | Constant | Binary | Unary):
        return value
    if isinstance(value, bool | str):
        return Constant(value)
    if isinstance(value, int | float):
        return Constant(float(value))
    raise DeclarationError(
        f"{value!r} in an expression", where="project.py", cure="use features, numbers, text or booleans"
    )
