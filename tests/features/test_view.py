"""The training frame: every feature of a model, in the order of the rows asked about."""

from dataclasses import replace

import polars as pl
import pytest
from tests.features.project import INSTANT, churn, day, histories

from ecluse.core.contract import Category, Table
from ecluse.core.entity import Entity
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.view import FeatureView, last
from ecluse.features.view import feature_frame, model_inputs

ASKS = pl.DataFrame(
    [("c", day(21), 1.0), ("a", day(6), 2.0), ("nobody", day(6), None), ("a", day(61), 4.0), ("a", day(6), 2.0)],
    schema={"__key": pl.String, "__at": INSTANT, "seats": pl.Float64},
    orient="row",
)


def test_every_feature_in_the_order_asked() -> None:
    frame = feature_frame(churn, ASKS, histories())
    assert frame.select("__key", "__at").equals(ASKS.select("__key", "__at"))
    assert set(model_inputs(churn)) | {"__key", "__at", "since", "__event:profile", "__event:support"} == set(
        frame.columns
    )
    assert frame["plan"].to_list() == ["Never seen", "Basic", None, None, "Basic"]  # day 61: older than the ttl
    assert frame["tickets"].to_list() == [1.0, 2.0, 0.0, 0.0, 2.0]
    assert frame["tenure"].to_list() == [3.0, 106.0, None, None, 106.0]
    assert frame["per_ticket"].to_list() == [0.0, 2.5, None, None, 2.5]
    assert frame["new"].to_list() == [1.0, 0.0, None, None, 0.0]
    assert frame["seats_left"].to_list() == [9.0, 8.0, None, 6.0, 8.0]
    assert frame["__event:profile"].to_list() == [day(19), day(1), None, None, day(1)]
    assert frame["__event:support"].to_list() == [day(19), day(6), None, day(6), day(6)]


def test_inputs_are_in_the_order_of_the_model() -> None:
    assert model_inputs(churn) == list(churn.input_kinds)
    assert "since" not in model_inputs(churn)  # an instant is read by derived features only


def test_a_missing_request_field_is_named() -> None:
    with pytest.raises(InvalidInput, match="`seats`"):
        feature_frame(churn, ASKS.drop("seats"), histories())


def test_a_missing_table_is_named() -> None:
    with pytest.raises(NotFound, match="tickets"):
        feature_frame(churn, ASKS, {"users": histories()["users"]})


def test_a_view_of_another_entity_is_read_by_its_own_key() -> None:
    country = Table("countries", Entity("country"), {"region": Category(nulls=1)})
    rows = pl.DataFrame(
        [("fr", day(1), day(1), "Europe")],
        schema={"__key": pl.String, "__event": INSTANT, "__known": INSTANT, "region": pl.String},
        orient="row",
    )
    model = replace(
        churn,
        features=(FeatureView("geography", country, {"region": last("region")}),),
        derived={},
    )
    asks = ASKS.with_columns(pl.Series("__key:country", ["fr", "fr", None, "de", "fr"]))
    frame = feature_frame(model, asks, {"countries": rows})
    assert frame["region"].to_list() == ["Europe", "Europe", None, None, "Europe"]
    with pytest.raises(InvalidInput, match="__key:country"):
        feature_frame(model, ASKS, {"countries": rows})
