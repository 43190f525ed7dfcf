"""The two evaluators of expressions say the same on every row."""

from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecluse.core.errors import DeclarationError
from ecluse.core.expression import AS_OF, Binary, BinaryOp, Constant, Node, Unary, UnaryOp, evaluate, feature
from ecluse.core.view import FeatureKind
from ecluse.frames.expression import to_number, to_polars

KINDS: dict[str, FeatureKind] = {
    "x": "number",
    "y": "number",
    "flag": "boolean",
    "other": "boolean",
    "plan": "category",
    "since": "instant",
}
INSTANT = pl.Datetime("us", "UTC")
SCHEMA = {
    "x": pl.Float64(),
    "y": pl.Float64(),
    "flag": pl.Boolean(),
    "other": pl.Boolean(),
    "plan": pl.String(),
    "since": INSTANT,
    "__at": INSTANT,
}
ARITHMETIC: list[BinaryOp] = ["+", "-", "*", "/"]
ORDER: list[BinaryOp] = ["<", "<=", ">", ">="]
EQUALITY: list[BinaryOp] = ["==", "!="]
LOGIC: list[BinaryOp] = ["and", "or"]
FUNCTIONS: list[UnaryOp] = ["-", "abs", "log", "log1p", "sqrt", "days"]
CALENDAR: list[UnaryOp] = ["year", "month", "day", "weekday", "hour"]

numbers = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 1e308, -1e308, 5e-324]) | st.floats(
    allow_nan=False, allow_infinity=False
)
micros = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
values = st.fixed_dictionaries(
    {
        "x": st.none() | numbers,
        "y": st.none() | numbers,
        "flag": st.none() | st.booleans(),
        "other": st.none() | st.booleans(),
        "plan": st.none() | st.sampled_from(["", "Basic", "Gold"]),
        "since": st.none() | micros,
        "__at": micros,
    }
)


def _trees(depth: int) -> tuple[st.SearchStrategy[Node], st.SearchStrategy[Node], st.SearchStrategy[Node]]:
    """(numbers or booleans, anything, booleans): well-typed expressions."""
    numeric: st.SearchStrategy[Node] = (
        st.sampled_from(["x", "y", "flag", "since"]).map(feature) | numbers.map(Constant) | st.just(AS_OF)
    )
    text: st.SearchStrategy[Node] = st.sampled_from([feature("plan"), Constant("Gold"), Constant("")])
    boolean: st.SearchStrategy[Node] = st.sampled_from([feature("flag"), feature("other"), Constant(True)])
    anything = numeric | text | boolean
    for _ in range(depth):
        boolean = (
            st.builds(Binary, st.sampled_from(ORDER), numeric, numeric)
            | st.builds(Binary, st.sampled_from(EQUALITY), anything, anything)
            | st.builds(Binary, st.sampled_from(LOGIC), boolean, boolean)
            | st.builds(Unary, st.just("is_missing"), anything)
            | st.builds(Unary, st.just("not"), boolean)
        )
        numeric = (
            st.builds(Binary, st.sampled_from(ARITHMETIC), numeric, numeric)
            | st.builds(Unary, st.sampled_from(FUNCTIONS + CALENDAR), numeric)
            | numeric
            | boolean
        )
        anything = anything | numeric | boolean
    return numeric, anything, boolean


@settings(max_examples=max(400, settings().max_examples))
@given(_trees(3)[1], st.lists(values, min_size=1, max_size=5))
@example(Binary("/", feature("x"), feature("y")), [{**dict.fromkeys(SCHEMA), "x": 1e308, "y": 5e-324, "__at": 0}])
@example(Unary("days", feature("since")), [{**dict.fromkeys(SCHEMA), "since": n, "__at": 0} for n in range(490, 510)])
@example(Binary("/", feature("x"), Constant(3.0)), [{**dict.fromkeys(SCHEMA), "x": n, "__at": 0} for n in range(20)])
@example(
    Binary("<", Constant(0.0), Binary("+", feature("x"), AS_OF)),
    [{**dict.fromkeys(SCHEMA), "__at": 0} for _ in range(2)],
)
@example(Unary("log", feature("x")), [{**dict.fromkeys(SCHEMA), "x": 0.0, "__at": 0}])
@example(Unary("year", feature("x")), [{**dict.fromkeys(SCHEMA), "x": 1e300, "__at": 0}])
def test_polars_and_python_agree(node: Node, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    got = frame.select("x", got=to_polars(node, KINDS))["got"].to_list()
    expected = [evaluate(node, _as_served(row)) for row in rows]
    assert [(type(value), value) for value in got] == [(type(value), value) for value in expected]


def _as_served(row: dict[str, Any]) -> dict[str, Any]:
    since = row["since"]
    return {**row, "since": None if since is None else float(since), "as_of": float(row["__at"])}


def test_a_tenure_in_days() -> None:
    frame = pl.DataFrame([{"since": 0, "__at": 86_400_000_000 * 3}], schema={"since": INSTANT, "__at": INSTANT})
    assert frame.select(to_number((AS_OF - feature("since")).days(), KINDS)).item() == 3.0


def test_a_condition_becomes_a_number() -> None:
    frame = pl.DataFrame({"x": [1.0, None, 3.0]})
    assert frame.select(to_number(feature("x") > 2, KINDS))["x"].to_list() == [0.0, None, 1.0]


@pytest.mark.parametrize("node", [feature("plan") + 1, -feature("plan"), feature("plan") < 3.0])
def test_text_in_arithmetic_is_refused(node: Node) -> None:
    with pytest.raises(DeclarationError, match="text in arithmetic"):
        to_polars(node, KINDS)


def test_text_is_not_a_derived_feature() -> None:
    with pytest.raises(DeclarationError, match="text"):
        to_number(feature("plan"), KINDS)


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(DeclarationError, match="`nowhere`"):
        to_polars(feature("nowhere") + 1, KINDS)
