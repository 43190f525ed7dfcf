"""What the loader makes of pandas columns: the matrix serving would make of the same values, or an error that names the column."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.tracked import trained, written

from ecluse.core.errors import Corrupt, InvalidInput
from ecluse.core.instants import to_micros
from ecluse.core.schema import Schema, encode_value
from ecluse.features.online import make_assemble
from ecluse.integrations.mlflow_pyfunc import _load_pyfunc, encode_frame

MOMENT = datetime(2024, 1, 31, 12, tzinfo=UTC)
SINCE = datetime(2023, 5, 1, tzinfo=UTC)


def schema() -> Schema:
    return trained("binary")[0].schema


def number() -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0])


rows = st.lists(
    st.fixed_dictionaries(
        {
            "age": number(),
            "mean_age": number(),
            "plan": st.sampled_from(["Basic", "Gold", "Silver", "Platinum", "", None]),
            "senior": st.booleans() | st.none(),
            "clicks": st.integers(0, 100) | st.none(),
            "since": st.sampled_from([SINCE, MOMENT, None]),
        }
    ),
    min_size=1,
    max_size=6,
)


def served(row: dict[str, Any]) -> list[float]:
    """The vector the data plane makes of a request with explicit features."""
    values = row | {"since": None if row["since"] is None else to_micros(row["since"])}
    return make_assemble(schema())({}, values, to_micros(MOMENT), to_micros(MOMENT)).vector


@given(rows, st.booleans())
def test_the_matrix_is_what_serving_makes(given_rows: list[dict[str, Any]], objects: bool) -> None:
    frame = pd.DataFrame(given_rows, dtype=object if objects else None).assign(as_of=MOMENT)
    assert np.array_equal(encode_frame(frame, schema()), np.array([served(row) for row in given_rows]), equal_nan=True)


@given(st.lists(st.sampled_from(["Basic", "Gold", "Silver", "Platinum", None]), min_size=1))
def test_any_kind_of_text_column(words: list[str | None]) -> None:
    plan = next(each for each in schema().features if each.name == "plan")
    expected = [encode_value(plan, word) for word in words]
    place = schema().features.index(plan)
    for dtype in ("object", "string", "category"):
        columns: dict[str, Any] = {
            name: [1.0] * len(words) for name in ("age", "mean_age", "senior", "clicks", *schema().derived)
        }
        frame = pd.DataFrame(columns).assign(plan=pd.Series(words, dtype=dtype))
        assert np.array_equal(encode_frame(frame, schema())[:, place], expected, equal_nan=True)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("age", ["40"], "`age` is"),
        ("age", [MOMENT], "`age` is"),
        ("plan", [1.0], "`plan` holds fractions"),
        ("since", [datetime(2024, 1, 1)], "`since` is"),  # noqa: DTZ001 - the point
        ("since", ["yesterday"], "not an instant"),
        ("age", None, "no column `age`"),
        ("as_of", None, "`known_days` cannot be computed without `as_of`"),
    ],
)
def test_wrong_columns_are_named(column: str, values: Any, message: str) -> None:
    good = {"age": 40, "mean_age": 41.5, "plan": "Gold", "senior": True, "clicks": 3, "since": SINCE, "as_of": MOMENT}
    good["ratio"] = 1.0  # so that a missing age is not noticed there first
    frame = pd.DataFrame([good])
    frame = frame.drop(columns=column) if values is None else frame.assign(**{column: values})
    with pytest.raises(InvalidInput, match=message):
        encode_frame(frame, schema())


def test_index_and_order_do_not_matter() -> None:
    good = {"age": 40, "mean_age": 41.5, "plan": "Gold", "senior": True, "clicks": 3, "since": SINCE, "as_of": MOMENT}
    frame = pd.DataFrame([good, good | {"plan": "Basic"}])
    shuffled = frame[sorted(frame.columns, reverse=True)].set_index(pd.Index([7, 7]))
    assert np.array_equal(encode_frame(frame, schema()), encode_frame(shuffled, schema()))
    assert encode_frame(frame[:0], schema()).shape == (0, len(schema().features))


def test_a_folder_that_is_not_its_digest(tmp_path: Path) -> None:
    bundle, _ = trained("binary")
    folder = written(bundle, tmp_path)
    assert _load_pyfunc(str(folder)).predict is not None
    (folder / "schema.json").write_bytes(b"{}")
    with pytest.raises(Corrupt):
        _load_pyfunc(str(folder))
