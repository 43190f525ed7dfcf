"""A rule in polars says what the plain evaluator of core says, row by row."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.contract import Boolean, Category, Column, Instant, Integer, Number
from ecluse.core.errors import DeclarationError
from ecluse.core.expression import Constant, Node, Ref, Unary, col, evaluate
from ecluse.core.instants import from_micros, to_micros
from ecluse.data.frame import column_dtype
from ecluse.data.rules import violated

AS_OF = datetime(2024, 2, 1, tzinfo=UTC)
COLUMNS: dict[str, Column] = {
    "x": Number(), "n": Integer(), "flag": Boolean(), "plan": Category(), "since": Instant(),
}  # fmt: skip

quarters = st.integers(-40, 40).map(
    lambda number: number / 4
)  # exact in doubles: no last-digit differences to argue about
numbers = st.recursive(
    st.sampled_from([Ref("x"), Ref("n"), Ref("since"), Ref("as_of"), Ref("flag")]) | quarters.map(Constant),
    lambda inner: (
        st.tuples(inner, inner, st.sampled_from("+-*/")).map(
            lambda t: {"+": t[0] + t[1], "-": t[0] - t[1], "*": t[0] * t[1], "/": t[0] / t[1]}[t[2]]
        )
        | st.tuples(st.sampled_from(["-", "abs", "sqrt", "days"]), inner).map(lambda t: Unary(t[0], t[1]))  # type: ignore[arg-type]
    ),
    max_leaves=4,
) | st.sampled_from(["year", "month", "day", "weekday", "hour"]).map(lambda part: Unary(part, Ref("since")))  # type: ignore[arg-type]
words = st.sampled_from([Ref("plan"), Constant("Gold"), Constant("")])
conditions = st.recursive(
    st.tuples(numbers, numbers).flatmap(
        lambda t: st.sampled_from([t[0] < t[1], t[0] <= t[1], t[0] > t[1], t[0] >= t[1]])
    )
    | st.tuples(numbers | words, numbers | words).flatmap(
        lambda t: st.sampled_from([t[0].equals(t[1]), t[0].differs(t[1])])
    )
    | (numbers | words).map(lambda node: node.is_missing())
    | st.just(Ref("flag")),
    lambda inner: (
        st.tuples(inner, inner).map(lambda t: t[0] & t[1])
        | st.tuples(inner, inner).map(lambda t: t[0] | t[1])
        | inner.map(lambda node: ~node)
    ),
    max_leaves=4,
)
moments = st.integers(to_micros(datetime(1950, 1, 1, tzinfo=UTC)), to_micros(datetime(2100, 1, 1, tzinfo=UTC)))
row = st.fixed_dictionaries(
    {
        "x": st.none() | quarters,
        "n": st.none() | st.integers(-5, 5),
        "flag": st.none() | st.booleans(),
        "plan": st.none() | st.sampled_from(["Gold", "Basic", ""]),
        "since": st.none() | moments,
    }
)


@given(conditions, st.lists(row, min_size=1, max_size=6))
def test_equal_to_the_plain_evaluator(condition: Node, rows: list[dict[str, Any]]) -> None:
    typed = [{**each, "since": None if each["since"] is None else from_micros(each["since"])} for each in rows]
    frame = pl.DataFrame(typed, schema={name: column_dtype(column) for name, column in COLUMNS.items()})
    timed = frame.with_columns(pl.lit(AS_OF).cast(pl.Datetime("us", "UTC")).alias("__at"))
    found = timed.select(violated(condition, COLUMNS).fill_null(value=False).alias("bad"))["bad"]
    plain = [evaluate(condition, {**_plain(each), "as_of": float(to_micros(AS_OF))}) is False for each in rows]
    assert found.to_list() == (
        plain if len(found) == len(plain) else plain[:1]
    )  # a condition without columns is one answer


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: float(value) if name in ("n", "since") and value is not None else value for name, value in row.items()
    }


@pytest.mark.parametrize("node", [col("x") + 1, col("plan") > 1, ~col("x"), col("flag") & col("x"), Constant("yes")])
def test_what_is_no_condition_is_refused(node: Node) -> None:
    with pytest.raises(DeclarationError):
        violated(node, COLUMNS)


@pytest.mark.parametrize("op", ["log", "log1p"])
def test_logarithms(op: str) -> None:
    frame = pl.DataFrame({"x": [2.5, 0.0, -1.0, -2.0, None]}, schema={"x": pl.Float64})
    for limit in (0.5, 5.0):
        condition = Unary(op, col("x")) < limit  # type: ignore[arg-type]
        bad = frame.select(violated(condition, COLUMNS).alias("bad"))["bad"]
        assert [value is True for value in bad] == [evaluate(condition, {"x": x}) is False for x in frame["x"]]
