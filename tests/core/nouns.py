"""A small declaration the core tests share."""

from ecluse.core.contract import Boolean, Category, Instant, Integer, Number, Rule, Table, Text
from ecluse.core.entity import Entity
from ecluse.core.expression import AS_OF, col, feature
from ecluse.core.model import Choice, Label, Model, Range, model
from ecluse.core.view import FeatureView, count, last, total

USER = Entity("user_id")
USAGE = Table(
    "usage",
    key=USER,
    event_time="watched_at",
    identity=("session",),
    columns={"watched_at": Instant(), "session": Text(), "hours": Number(min=0), "plan": Category(["Basic", "Gold"])},
    rules=(Rule("short", col("hours") <= 24),),
    freshness="40d",  # type: ignore[arg-type]
)
LABELS = Table("labels", key=USER, columns={"left": Boolean(), "visits": Integer(min=0)})
ENGAGEMENT = FeatureView(
    "engagement",
    USAGE,
    ttl="45d",  # type: ignore[arg-type]
    features={
        "plan": last("plan"),
        "hours_30d": total("hours", over="30d"),
        "sessions_30d": count(over="30d"),
        "last_at": last("watched_at"),
    },
)
LEFT = Label("left", LABELS, column="left", horizon="30d", known_after="5d")  # type: ignore[arg-type]


def build(rate: object = Range(0.1, 0.3, default=0.2), leaves: object = Choice(15, 31), seed: int = 0) -> object:
    """An estimator that is never built here."""
    return (rate, leaves, seed)


def churn() -> Model:
    """The declared model."""
    derived = {
        "per_session": feature("hours_30d") / feature("sessions_30d"),
        "idle_days": (AS_OF - feature("last_at")).days(),
    }
    return model("churn", predicts=LEFT, features=[ENGAGEMENT], judged_by="roc_auc", derived=derived)(build)
