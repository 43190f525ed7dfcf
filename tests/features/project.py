"""A small problem with every kind of feature, for the tests of this room."""

from datetime import UTC, datetime, timedelta

import polars as pl

from ecluse.core.contract import Boolean, Category, Instant, Number, Table
from ecluse.core.entity import Entity
from ecluse.core.expression import AS_OF, feature
from ecluse.core.model import Label, Model
from ecluse.core.schema import Feature, Schema, StoredView
from ecluse.core.view import FeatureView, count, last, total

USER = Entity("user")
START = datetime(2024, 1, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")

users = Table(
    "users", USER, {"plan": Category(nulls=1), "trial": Boolean(nulls=1), "since": Instant(nulls=1)}, event_time="as_of"
)
tickets = Table("tickets", USER, {"cost": Number(nulls=1)}, event_time="as_of")
labels = Table("labels", USER, {"churned": Boolean()}, event_time="as_of")
profile = FeatureView(
    "profile", users, {"plan": last("plan"), "trial": last("trial"), "since": last("since")}, ttl=timedelta(days=40)
)
support = FeatureView(
    "support", tickets, {"tickets": count(over="30d"), "cost": total("cost", over="30d")}, missing="accept"
)
churn = Model(
    "churn",
    Label("churned", labels, "churned"),
    (profile, support),
    "roc_auc",
    derived={
        "tenure": (AS_OF - feature("since")).days(),
        "per_ticket": feature("cost") / feature("tickets"),
        "new": (AS_OF - feature("since")).days() < 30,
        "seats_left": 10.0 - feature("seats"),
    },
    request={"seats": Number(min=0)},
)


def day(value: float) -> datetime:
    return START + timedelta(days=value)


def users_history() -> pl.DataFrame:
    return pl.DataFrame(
        [
            ("a", day(1), day(1), "Basic", True, day(-100)),
            ("a", day(20), day(20), "Gold", False, day(-100)),
            ("b", day(1), day(1), None, None, None),
            ("c", day(19), day(19), "Never seen", True, day(18)),
        ],
        schema={
            "__key": pl.String,
            "__event": INSTANT,
            "__known": INSTANT,
            "plan": pl.String,
            "trial": pl.Boolean,
            "since": INSTANT,
        },
        orient="row",
    )


def tickets_history() -> pl.DataFrame:
    return pl.DataFrame(
        [("a", day(5), day(5), 2.0), ("a", day(6), day(6), 3.0), ("c", day(19), day(19), None)],
        schema={"__key": pl.String, "__event": INSTANT, "__known": INSTANT, "cost": pl.Float64},
        orient="row",
    )


def histories() -> dict[str, pl.DataFrame]:
    return {"users": users_history(), "tickets": tickets_history()}


def schema() -> Schema:
    def one(name: str, kind: str) -> Feature:
        if kind == "category":
            return Feature(name, "category", ("Basic", "Gold"))
        return Feature(name, "boolean" if kind == "boolean" else "number")

    return Schema(
        model="churn",
        task="binary",
        features=tuple(one(name, kind) for name, kind in churn.input_kinds.items()),
        views=tuple(StoredView(v.name, v.table.key, v.kinds, v.ttl, v.missing) for v in churn.features),
        columns={"seats": Number(min=0)},
        request=("seats",),
        derived=churn.derived,
        accepts="both",
    )
