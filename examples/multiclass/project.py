"""Which fault will a machine have in the next fortnight: none, its bearing, its electrics?"""
# fmt: off

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ecluse import Category, Entity, FeatureView, Instant, Integer, Label, Number, Range, Table, feature, highest, last, mean, model
from ecluse.training.encoders import scaled_encoder

machine = Entity("machine_id", kind="integer")

machines = Table("machines", key=machine, event_time="installed_at", columns={
    "installed_at": Instant(),
    "maker": Category(["Adler", "Brunel", "Curie"]),
    "power_kw": Integer(min=1, max=500),
})
readings = Table("readings", key=machine, event_time="at", references=("machines",), columns={
    "at": Instant(),
    "vibration": Number(min=0),
    "temperature": Number(min=-50, max=300, nulls=0.1),
    "voltage": Number(min=0, max=1_000),
})
inspections = Table("inspections", key=machine, event_time="at", references=("machines",), columns={
    "at": Instant(),
    "fault": Category(["none", "bearing", "electrical"]),
})

built = FeatureView("built", machines, {"maker": last("maker"), "power_kw": last("power_kw")})
sensors = FeatureView("sensors", readings, ttl="20d", features={
    "vibration_now": last("vibration"),
    "vibration_30d": mean("vibration", over="30d"),
    "temperature_30d": mean("temperature", over="30d"),
    "voltage_30d": mean("voltage", over="30d"),
    "voltage_peak": highest("voltage", over="30d"),
})

fault = Label("fault", inspections, column="fault", horizon="14d", known_after="2d")


@model("faults", predicts=fault, judged_by="log_loss", features=[built, sensors], derived={
    "surge": feature("voltage_peak") - feature("voltage_30d"),
})
def faults(strength=Range(0.01, 10.0, default=1.0, log=True)):
    """A linear model over scaled numbers; `strength` is the inverse of its regularisation."""
    return make_pipeline(scaled_encoder(), LogisticRegression(C=strength, max_iter=500))
