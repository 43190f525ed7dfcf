"""Histories across contracts that grew."""

import polars as pl
import pytest
from tests.data.tables import visits

from ecluse.core.contract import Integer, Number
from ecluse.core.errors import InvalidInput
from ecluse.data.frame import history_of, schema_of


def test_a_column_declared_since_is_missing_in_older_rows_and_a_dropped_one_is_gone() -> None:
    old, new = (
        visits(columns={"fee": Number(), "gone": Number()}, event_time="as_of", rules=()),
        visits(columns={"fee": Number(), "more": Integer()}, event_time="as_of", rules=()),
    )
    frame = pl.DataFrame([("a", None, None, 1.0, 2.0)], schema=schema_of(old), orient="row")
    history = history_of([frame, history_of([], new)], new)
    assert history.schema == schema_of(new)
    assert history["more"].to_list() == [None]


def test_a_changed_type_is_refused() -> None:
    old, new = (visits(columns={"fee": kind}, event_time="as_of", rules=()) for kind in (Integer(), Number()))
    with pytest.raises(InvalidInput, match="`fee` was Int64"):
        history_of([pl.DataFrame(schema=schema_of(old))], new)
