"""Serving gets what training saw: the same numbers, or a named reason why not."""

import math
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from tests.features.project import INSTANT, churn, day, histories, profile, schema, support

from ecluse.core.instants import to_micros
from ecluse.core.ports import OnlineRow
from ecluse.core.schema import Schema, encode_value
from ecluse.features.materialize import online_rows
from ecluse.features.online import Assembled, FeatureProblem, make_assemble
from ecluse.features.view import feature_frame

KEYS = pl.Series(["a", "b", "c", "nobody"])


def stored(moment: datetime) -> dict[str, dict[str, OnlineRow]]:
    """Key -> view -> row."""
    rows: dict[str, dict[str, OnlineRow]] = {key: {} for key in KEYS}
    for view in (profile, support):
        for key, row in online_rows(histories()[view.table.name], view, KEYS, moment):
            rows[key][view.name] = row
    return rows


def ask(rows: dict[str, OnlineRow], moment: datetime, given: Schema | None = None, **fields: object) -> Assembled:
    values = {"seats": 1.0, **fields}
    micros = to_micros(moment)
    return make_assemble(given or schema())(rows, values, micros, micros)  # type: ignore[arg-type]


def by_name(found: Assembled) -> dict[str, float]:
    return dict(zip(churn.input_kinds, found.vector, strict=True))


def encoded(row: dict[str, Any]) -> list[float]:
    return [encode_value(feature, row[feature.name]) for feature in schema().features]


@pytest.mark.parametrize("moment", [day(6), day(20), day(45)])
def test_the_vector_is_the_training_row_of_that_moment(moment: datetime) -> None:
    asks = pl.DataFrame({"__key": KEYS, "seats": [1.0] * len(KEYS)}).with_columns(
        pl.lit(moment).cast(INSTANT).alias("__at")
    )
    expected = feature_frame(churn, asks, histories()).select(list(churn.input_kinds)).to_dicts()
    lenient = replace(schema(), views=tuple(replace(view, missing="accept") for view in schema().views))
    rows = stored(moment)
    for key, row in zip(KEYS, expected, strict=True):
        assert ask(rows[key], moment, lenient).vector == pytest.approx(encoded(row), nan_ok=True)


def test_moments_raw_values_and_unseen_are_named() -> None:
    found = ask(stored(day(20))["c"], day(20))
    assert found.moments == {"profile": to_micros(day(20)), "support": to_micros(day(20))}
    assert found.raw["since"] == to_micros(day(18))
    assert found.raw["plan"] == "Never seen"
    assert found.unseen == ("plan",)
    assert found.degraded == ()
    seen = by_name(found)
    assert seen["plan"] == -1.0
    assert seen["trial"] == 1.0
    assert seen["new"] == 1.0


def test_missing_values_are_nan_for_the_scorer() -> None:
    found = ask(stored(day(6))["b"], day(6))
    seen = by_name(found)
    assert math.isnan(seen["plan"])
    assert math.isnan(seen["tenure"])
    assert seen["tickets"] == 0.0
    assert found.degraded == ("support: the entity has no live row in the table",)


def test_an_unknown_entity_is_refused_by_name() -> None:
    with pytest.raises(FeatureProblem) as problem:
        ask({}, day(6))
    assert (problem.value.code, problem.value.view, problem.value.field) == ("feature_missing", "profile", "plan")
    assert "materialize" in problem.value.cure


def test_values_older_than_the_ttl_are_stale() -> None:
    rows = stored(day(20))
    with pytest.raises(FeatureProblem) as problem:
        ask(rows["a"], day(61))
    assert (problem.value.code, problem.value.view) == ("feature_stale", "profile")


@pytest.mark.parametrize(("view", "field", "text"), [("support", "tickets", "12"), ("profile", "since", "2024-01-01")])
def test_text_where_a_number_was_is_refused_by_name(view: str, field: str, text: str) -> None:
    """As a view declared anew leaves it to the version before: it is no number, even if it looks like one."""
    rows = stored(day(20))["a"]
    row = rows[view]
    with pytest.raises(FeatureProblem) as problem:
        ask({**rows, view: row._replace(values={**row.values, field: text})}, day(20))
    assert (problem.value.code, problem.value.view, problem.value.field) == ("feature_missing", view, field)


def test_an_event_older_than_the_ttl_is_stale_though_computed_lately() -> None:
    row = OnlineRow({"plan": "Basic", "trial": True, "since": 0}, to_micros(day(60)), to_micros(day(1)))
    with pytest.raises(FeatureProblem) as problem:
        ask({"profile": row}, day(60))
    assert problem.value.code == "feature_stale"


def test_an_absence_found_too_long_ago_is_stale_too() -> None:
    row = OnlineRow({"plan": None, "trial": None, "since": None}, to_micros(day(1)), None)
    for moment, code in ((day(2), "feature_missing"), (day(60), "feature_stale")):
        with pytest.raises(FeatureProblem) as problem:
            ask({"profile": row}, moment)
        assert problem.value.code == code


def test_a_view_that_accepts_missing_says_degraded_and_makes_nothing_up() -> None:
    rows = {"profile": stored(day(6))["a"]["profile"]}
    found = ask(rows, day(6))
    assert math.isnan(by_name(found)["tickets"])
    assert found.degraded == ("support: the online store has no row of this entity",)


def test_a_row_written_by_an_older_view_is_missing_not_a_crash() -> None:
    rows = stored(day(6))["a"]
    row = rows["profile"]
    rows["profile"] = row._replace(values={"plan": "Basic", "trial": True})
    with pytest.raises(FeatureProblem) as problem:
        ask(rows, day(6))
    assert (problem.value.code, problem.value.field) == ("feature_missing", "since")


def test_explicit_features_need_no_store() -> None:
    found = ask({}, day(10), plan="Gold", trial=None, since=float(to_micros(day(0))), tickets=2.0, cost=5.0)
    assert by_name(found)["tenure"] == 10.0
    assert by_name(found)["per_ticket"] == 2.5
    assert found.moments == {}


def test_a_request_field_must_come() -> None:
    with pytest.raises(FeatureProblem) as problem:
        make_assemble(schema())(stored(day(6))["a"], {}, to_micros(day(6)), to_micros(day(6)))
    assert (problem.value.field, problem.value.view) == ("seats", "")
