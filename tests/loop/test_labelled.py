"""Labelled rows: what comes with a label's row (request fields, keys of other entities), and the moment that names them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecluse.app import App, open_app
from ecluse.core.errors import InvalidInput
from ecluse.loop.labelled import Labelled, labelled_rows

PROJECT = """
from ecluse import Boolean, Entity, FeatureView, Instant, Integer, Label, Number, Table, Text, feature, last, model

order, shop = Entity("order_no", kind="integer"), Entity("shop", columns=("country", "number"))
shops = Table("shops", key=shop, columns={"size": Number(min=0)})
orders = Table("orders", key=order, event_time="at", identity=("line",), columns={
    "at": Instant(), "line": Integer(), "country": Text(), "number": Text(), "amount": Number(), "late": Boolean(nulls=1.0),
})
size = FeatureView("size", shops, features={"size": last("size")})
late = Label("late", orders, column="late", known_after="1d")


@model("late", predicts=late, features=[size], judged_by="roc_auc", request={"amount": Number()},
       derived={"per_size": feature("amount") / feature("size")})
def build():
    raise AssertionError("never built here")
"""
START = datetime(2024, 1, 10, tzinfo=UTC)


@pytest.fixture
def app(tmp_path: Path) -> App:
    (tmp_path / "project.py").write_text(PROJECT)
    data = tmp_path / "data"
    data.mkdir()
    (data / "shops.csv").write_text("country,number,size\nFR,1,10\nFR,2,20\nDE,1,30\n")
    (data / "orders.csv").write_text(
        "order_no,at,line,country,number,amount,late\n"
        "7,2024-01-02,1,FR,2,100,true\n"
        "7,2024-01-02,2,DE,1,60,false\n"
        "07,2024-01-03,1,FR,1,5,\n"
        "8,2024-01-10,1,FR,1,50,true\n"
        "9,2024-01-04,1,XX,9,1,false\n"
    )
    opened = open_app(tmp_path)
    result = opened.ingest(data, START)
    assert result.passed, result
    return opened


def rows(app: App, moment: datetime) -> Labelled:
    return labelled_rows(app.world, app.project, app.project.model("late"), moment)


def test_request_fields_and_other_entities_come_from_the_label_s_row(app: App) -> None:
    found = rows(app, START)
    assert found.frame.select("__key", "amount").rows() == [("7", 100.0), ("7", 60.0), ("9", 1.0)]
    assert found.labels.frame["y"].to_list() == [True, False, False]
    assert (found.labels.immature, found.labels.missing) == (1, 1)
    assert found.labels.matures == START + timedelta(days=1)


def test_features_of_another_entity_are_those_of_its_key(app: App) -> None:
    assert app.ingest(app.root / "data", START + timedelta(days=5)).passed
    later = rows(app, START + timedelta(days=6))
    # the shops were not known before the 10th: orders made earlier know nothing of them
    assert later.frame.filter(later.frame["__at"] >= START)["size"].to_list() == [10.0]
    assert later.frame.filter(later.frame["__at"] >= START)["per_size"].to_list() == [5.0]
    assert later.frame.filter(later.frame["__at"] < START)["size"].null_count() == 3


def test_the_moment_is_when_the_rows_became_known(app: App) -> None:
    at_once, later = rows(app, START), rows(app, START + timedelta(hours=20))
    assert at_once.dataset == later.dataset
    assert at_once.dataset.moment == START
    mature = rows(app, START + timedelta(days=400))
    assert mature.dataset.moment == START + timedelta(days=1)
    assert mature.frame.height == 4


def test_the_same_dataset_gives_the_same_rows(app: App) -> None:
    first = rows(app, START)
    again = labelled_rows(app.world, app.project, app.project.model("late"), START + timedelta(days=400), first.dataset)
    assert again.frame.equals(first.frame)
    assert again.dataset == first.dataset


def test_a_field_the_label_s_table_does_not_have_is_an_error(app: App) -> None:
    (app.root / "project.py").write_text(
        PROJECT.replace('request={"amount"', 'request={"colour"').replace('feature("amount")', 'feature("colour")')
    )
    opened = open_app(app.root)
    with pytest.raises(InvalidInput, match=r"colour is not in the label's table orders"):
        rows(opened, START)
