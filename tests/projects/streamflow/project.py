"""Who of a streaming service's subscribers leaves: six monthly tables, as they are delivered."""

from typing import Any

from ecluse import (
    Boolean,
    Category,
    Entity,
    FeatureView,
    Instant,
    Integer,
    Label,
    Number,
    Rule,
    Table,
    col,
    last,
    model,
)

user = Entity("user_id")

users = Table(
    "users",
    key=user,
    columns={
        "signup_date": Instant(),
        "user_gender": Category(["Female", "Male"]),
        "user_is_senior": Boolean(),
        "has_family": Boolean(),
        "has_dependents": Boolean(),
    },
)
subscriptions = Table(
    "subscriptions",
    key=user,
    references=["users"],
    columns={
        "months_active": Integer(min=0, max=1_200),
        "plan_stream_tv": Boolean(nulls=0.5),  # empty for those without internet: missing, not true
        "plan_stream_movies": Boolean(nulls=0.5),
        "contract_type": Category(["Month-to-month", "One year", "Two year"]),
        "paperless_billing": Boolean(),
        "monthly_fee": Number(min=0),
        "total_paid": Number(min=0),
        "net_service": Category(["DSL", "Fiber optic", "No"]),
    },
    rules=[Rule("new_have_paid_nothing", (col("months_active") > 0) | (col("total_paid") <= 0))],
)
usage = Table(
    "usage",
    key=user,
    file="usage_agg_30d",
    references=["users"],
    columns={
        "watch_hours_30d": Number(min=0, max=720),
        "avg_session_mins_7d": Number(min=0),
        "unique_devices_30d": Integer(min=0),
        "skips_7d": Integer(min=0),
        "rebuffer_events_7d": Integer(min=0),
    },
)
payments = Table(
    "payments",
    key=user,
    file="payments_agg_90d",
    references=["users"],
    columns={
        "failed_payments_90d": Integer(min=0),
    },
)
support = Table(
    "support",
    key=user,
    file="support_agg_90d",
    references=["users"],
    columns={
        "support_tickets_90d": Integer(min=0),
        "ticket_avg_resolution_hrs_90d": Number(min=0, nulls=0.9),
    },
)
labels = Table("labels", key=user, references=["users"], columns={"churn_label": Boolean()})


def latest(name: str, table: Table, *columns: str) -> FeatureView:
    return FeatureView(name, table, ttl="45d", features={column: last(column) for column in columns})


profile = latest("profile", users, "user_gender", "user_is_senior", "has_family", "has_dependents")
subscription = latest("subscription", subscriptions, *subscriptions.columns)
engagement = latest(
    "engagement",
    usage,
    "watch_hours_30d",
    "avg_session_mins_7d",
    "unique_devices_30d",
    "skips_7d",
    "rebuffer_events_7d",
)
billing = latest("payments", payments, "failed_payments_90d")
tickets = latest("support", support, "support_tickets_90d", "ticket_avg_resolution_hrs_90d")

churned = Label("churned", labels, column="churn_label", horizon="0d")


@model("churn", predicts=churned, features=[profile, subscription, engagement, billing, tickets], judged_by="roc_auc")
def churn(trees: int = 300) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import encoder

    return make_pipeline(encoder(), RandomForestClassifier(trees))
