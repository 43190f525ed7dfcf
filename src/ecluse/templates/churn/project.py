"""Who will cancel? What is true of the problem; every number one may turn is in ecluse.toml."""
# fmt: off

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from ecluse import (
    AS_OF, Boolean, Category, Choice, Entity, FeatureView, Instant, Integer, Label, Number, Range, Rule, Table, col, count, distinct,
    feature, last, mean, model, total,
)
from ecluse.training.encoders import encoder

user = Entity("user_id")

users = Table("users", key=user, event_time="signed_up_at", columns={
    "signed_up_at": Instant(),
    "region": Category(["north", "east", "south", "west"]),
    "age_group": Category(["18-29", "30-49", "50+"]),
})
subscriptions = Table("subscriptions", key=user, rows=(100, None), references=("users",), columns={
    "plan": Category(["Basic", "Standard", "Premium"]),
    "contract": Category(["monthly", "annual"]),
    "auto_pay": Boolean(),
    "list_price": Number(min=0, max=100),
    "discount": Number(min=0),
}, rules=(Rule("discount_within_price", col("discount") <= col("list_price")),))
usage = Table("usage", key=user, event_time="at", identity=("event_id",), references=("users",), freshness="7d", columns={
    "event_id": Integer(min=0),
    "at": Instant(),
    "minutes": Number(min=0, max=1_440),
    "device": Category(["tv", "phone", "tablet", "laptop"]),
    "rebuffers": Integer(min=0),
})
payments = Table("payments", key=user, event_time="at", available_at="known_at", identity=("event_id",), references=("users",), columns={
    "event_id": Integer(min=0),
    "at": Instant(),
    "known_at": Instant(),  # a payment taken back comes again, later: same event, another truth
    "amount": Number(min=0),
    "failed": Integer(min=0, max=1),
}, rules=(Rule("known_after_it_happened", col("known_at") >= col("at")),))
tickets = Table("tickets", key=user, event_time="at", identity=("event_id",), references=("users",), columns={
    "event_id": Integer(min=0),
    "at": Instant(),
    "topic": Category(["billing", "playback", "account"]),
    "hours": Number(min=0),
})
labels = Table("labels", key=user, event_time="at", references=("users",), columns={"at": Instant(), "churned": Boolean()})

profile = FeatureView("profile", users, {name: last(name) for name in ("region", "age_group", "signed_up_at")})
subscription = FeatureView("subscription", subscriptions, ttl="45d", features={
    name: last(name) for name in ("plan", "contract", "auto_pay", "list_price", "discount")
})
engagement = FeatureView("engagement", usage, missing="accept", features={
    "sessions_30d": count(over="30d"), "minutes_30d": total("minutes", over="30d"),
    "minutes_60d": total("minutes", over="60d"),
    "session_minutes": mean("minutes", over="30d"),
    "devices_30d": distinct("device", over="30d"),
    "rebuffers_30d": total("rebuffers", over="30d"),
})
billing = FeatureView("billing", payments, missing="accept", features={
    "paid": last("amount"), "failed_30d": total("failed", over="30d"), "failed_90d": total("failed", over="90d"),
})
support = FeatureView("support", tickets, missing="accept", features={
    "tickets_30d": count(over="30d"), "tickets_90d": count(over="90d"), "wait_hours": mean("hours", over="90d"),
})

churned = Label("churned", labels, column="churned", horizon="30d", known_after="5d")


@model("churn", predicts=churned, judged_by="roc_auc", features=[profile, subscription, engagement, billing, support], derived={
    "tenure_days": (AS_OF - feature("signed_up_at")).days(),
    "price": feature("list_price") - feature("discount"),
    "price_per_hour": (feature("list_price") - feature("discount")) / (feature("minutes_30d") / 60 + 1),
    "watches_less": feature("minutes_30d") / (feature("minutes_60d") + 1),
})
def churn(learning_rate=Range(0.02, 0.3, default=0.06, log=True), leaves=Choice(7, 15, 31, default=7), rounds=Range(40, 300, default=120)):
    """Gradient-boosted trees behind one-hot words; the parameters are what `ecluse.toml` and tuning may turn."""
    trees = HistGradientBoostingClassifier(learning_rate=learning_rate, max_leaf_nodes=leaves, max_iter=rounds, min_samples_leaf=40)
    return make_pipeline(encoder(), trees)
