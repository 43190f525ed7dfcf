"""How many of a product will a shop sell in the next seven days?"""
# fmt: off

from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline

from ecluse import Category, Choice, Entity, FeatureView, Instant, Integer, Label, Number, Table, feature, highest, last, mean, model, total
from ecluse.training.encoders import encoder

item = Entity("item", columns=("shop", "product"))

shelf = Table("shelf", key=item, columns={
    "family": Category(["bread", "dairy", "fruit", "drinks"]),
    "price": Number(min=0.01, max=100),
})
sales = Table("sales", key=item, event_time="at", references=("shelf",), freshness="3d", columns={
    "at": Instant(),
    "units": Integer(min=0),
})
demand = Table("demand", key=item, event_time="at", references=("shelf",), columns={"at": Instant(), "units": Number(min=0)})

offer = FeatureView("offer", shelf, ttl="40d", features={"family": last("family"), "price": last("price")})
sold = FeatureView("sold", sales, ttl="14d", features={
    "units_7d": total("units", over="7d"),
    "units_28d": total("units", over="28d"),
    "a_day": mean("units", over="28d"),
    "best_day": highest("units", over="28d"),
})

week = Label("week", demand, column="units", horizon="7d", known_after="1d")


@model("demand", predicts=week, judged_by="mae", features=[offer, sold], derived={
    "trend": feature("units_7d") / (feature("units_28d") + 1),
})
def forecast(trees: int = 60, leaf=Choice(2, 5, 10, default=5)):
    """A forest: what sold like this sold so many."""
    return make_pipeline(encoder(), RandomForestRegressor(n_estimators=trees, min_samples_leaf=leaf))
