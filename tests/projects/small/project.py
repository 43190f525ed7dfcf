"""Three small problems about the same people: who leaves (binary), which tier they choose (multi-class), what they spend (regression)."""

from typing import Any

from ecluse import (
    Boolean,
    Category,
    Choice,
    Entity,
    FeatureView,
    Integer,
    Label,
    Number,
    Range,
    Table,
    feature,
    last,
    model,
    total,
)

person = Entity("person")

people = Table(
    "people",
    key=person,
    columns={
        "age": Number(min=0, max=120, nulls=0.5),
        "region": Category(["north", "south", "west"], nulls=0.5),
        "senior": Boolean(),
    },
)
visits = Table("visits", key=person, columns={"hours": Number(min=0), "clicks": Integer(min=0)})
truths = Table(
    "truths", key=person, columns={"left": Boolean(), "tier": Category(["basic", "gold", "none"]), "spend": Number()}
)

profile = FeatureView(
    "profile", people, features={"age": last("age"), "region": last("region"), "senior": last("senior")}
)
activity = FeatureView(
    "activity",
    visits,
    ttl="60d",  # type: ignore[arg-type]
    missing="accept",
    features={
        "hours": last("hours"),
        "hours_60d": total("hours", over="60d"),
        "clicks_60d": total("clicks", over="60d"),
    },
)
pace = {"pace": feature("clicks_60d") / feature("hours_60d")}

left = Label("left", truths, column="left", horizon="10d")  # type: ignore[arg-type]
tier = Label("tier", truths, column="tier")
spend = Label("spend", truths, column="spend")


RATE, TREES = Range(0.02, 0.5, default=0.1, log=True), Range(1, 200, default=20)
KIND = Choice("boosting", "neighbours", "broken")


@model("left", predicts=left, features=[profile, activity], derived=pace, judged_by="roc_auc")
def leaves(learning_rate: Any = RATE, trees: Any = TREES, kind: Any = KIND) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import encoder, scaled_encoder

    if kind == "neighbours":
        return make_pipeline(scaled_encoder(), KNeighborsClassifier())
    if kind == "broken":
        return make_pipeline(encoder(), HistGradientBoostingClassifier(loss="no such loss"))
    return make_pipeline(encoder(), HistGradientBoostingClassifier(learning_rate=learning_rate, max_iter=trees))


@model("tier", predicts=tier, features=[profile, activity], judged_by="log_loss")
def tiers(trees: int = 20) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import encoder

    return make_pipeline(encoder(), RandomForestClassifier(trees, min_samples_leaf=5))


@model("spend", predicts=spend, features=[profile, activity], judged_by="rmse")
def spends(alpha: float = 1.0) -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import scaled_encoder

    return make_pipeline(scaled_encoder(), Ridge(alpha=alpha))
