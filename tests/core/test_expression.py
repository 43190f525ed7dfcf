"""Expressions in plain Python: missing stays missing, nothing is infinite, they survive JSON."""

import json
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.codec import canonical, from_plain
from ecluse.core.errors import DeclarationError
from ecluse.core.expression import AS_OF, Node, evaluate, feature, names
from ecluse.core.instants import to_micros

A, B = feature("a"), feature("b")
MOMENT = float(to_micros(datetime(2024, 2, 29, 13, 5, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("node", "values", "answer"),
    [
        (A + 1, {"a": 2.0}, 3.0),
        (1 - A, {"a": 2.0}, -1.0),
        (A / B, {"a": 1.0, "b": 0.0}, None),
        (A * B, {"a": 1e308, "b": 10.0}, None),
        (A + B, {"a": None, "b": 1.0}, None),
        (A.log(), {"a": 0.0}, None),
        (A.log1p(), {"a": -1.0}, None),
        (A.sqrt(), {"a": -1.0}, None),
        (A.sqrt(), {"a": 9.0}, 3.0),
        (abs(-A), {"a": 2.0}, 2.0),
        (A.is_missing(), {"a": None}, True),
        (A.equals("x"), {"a": "x"}, True),
        (A.differs("x"), {"a": None}, None),
        ((A > 1) & (B > 1), {"a": 0.0, "b": None}, False),
        ((A > 1) | (B > 1), {"a": 2.0, "b": None}, True),
        ((A > 1) & (B > 1), {"a": 2.0, "b": None}, None),
        (~(A > 1), {"a": 2.0}, False),
        (A.month(), {"a": MOMENT}, 2.0),
        (A.weekday(), {"a": MOMENT}, 4.0),
        (A.hour(), {"a": MOMENT}, 13.0),
        (A.day() + A.year(), {"a": MOMENT}, 2053.0),
        ((AS_OF - A).days(), {"a": 0.0, "as_of": 86_400e6}, 1.0),
    ],
)
def test_values(node: Node, values: dict[str, float | bool | str | None], answer: object) -> None:
    assert evaluate(node, values) == answer


def test_text_in_arithmetic_is_refused() -> None:
    with pytest.raises(DeclarationError, match="in arithmetic"):
        evaluate(A + 1, {"a": "x"})


def test_only_features_numbers_text_and_booleans_take_part() -> None:
    with pytest.raises(DeclarationError, match="in an expression"):
        _ = A + object()


def test_names_leave_the_moment_out() -> None:
    assert names((AS_OF - A) / B) == {"a", "b"}


numbers = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, -1.0, 1.0]))
nodes = st.recursive(
    st.one_of(st.sampled_from([A, B]), st.floats(-5, 5).map(lambda x: feature("a") * x)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] / p[1]),
        inner.map(lambda n: n.log()),
        inner.map(lambda n: n.is_missing()),
    ),
    max_leaves=8,
)


@given(nodes, numbers, numbers)
def test_every_expression_survives_json_and_is_never_nan(node: Node, a: float | None, b: float | None) -> None:
    again: Node = from_plain(cast("type[Node]", Node), json.loads(canonical(node)), where="x")
    answer = evaluate(node, {"a": a, "b": b})
    assert evaluate(again, {"a": a, "b": b}) == answer
    assert answer is None or answer == answer
