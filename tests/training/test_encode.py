"""The encoded matrix agrees, cell by cell, with the one-value rule of the serving side."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import InvalidInput
from ecluse.core.schema import Feature, encode_value
from ecluse.training.encode import encode, model_frame

FEATURES = (Feature("n", "number"), Feature("b", "boolean"), Feature("c", "category", ("", "a", "é")))
ROWS = st.lists(
    st.tuples(
        st.none() | st.floats(allow_nan=True),
        st.none() | st.booleans(),
        st.none() | st.sampled_from(["", "a", "é", "unseen", "A"]),
    ),
    max_size=30,
)


@given(ROWS)
def test_same_as_one_value_at_a_time(rows: list[tuple[float | None, bool | None, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Float64, "b": pl.Boolean, "c": pl.String}, orient="row")
    matrix = encode(frame, FEATURES)
    wanted = np.array([[encode_value(f, v) for f, v in zip(FEATURES, row, strict=True)] for row in rows]).reshape(-1, 3)
    assert matrix.dtype == np.float64
    assert np.array_equal(matrix, wanted, equal_nan=True)


def test_model_frame_has_doubles_and_words() -> None:
    frame = pl.DataFrame({"c": ["a", None], "n": [1, None], "b": [True, None], "other": [1, 2]})
    seen = model_frame(frame, FEATURES)
    assert seen.schema == {"n": pl.Float64, "b": pl.Float64, "c": pl.String}
    assert np.array_equal(seen["n"].to_numpy(), [1.0, np.nan], equal_nan=True)
    assert np.array_equal(seen["b"].to_numpy(), [1.0, np.nan], equal_nan=True)
    assert seen["c"].to_list() == ["a", None]


def test_whole_number_and_enum_categories_are_words() -> None:
    features = (Feature("c", "category", ("1", "2")),)
    assert encode(pl.DataFrame({"c": [2, 7, None]}), features)[:2].ravel().tolist() == [1.0, -1.0]
    assert encode(pl.DataFrame({"c": pl.Series(["2"], dtype=pl.Categorical)}), features).tolist() == [[1.0]]


@pytest.mark.parametrize("frame", [
    pl.DataFrame({"n": ["x"]}), pl.DataFrame({"m": [1]}), pl.DataFrame({"n": [[1]]}),
], ids=["words", "absent", "lists"])  # fmt: skip
def test_wrong_columns_are_refused(frame: pl.DataFrame) -> None:
    for make in (encode, model_frame):
        with pytest.raises(InvalidInput):
            make(frame, FEATURES[:1])
    with pytest.raises(InvalidInput):
        encode(pl.DataFrame({"c": [1.5]}), FEATURES[2:])
