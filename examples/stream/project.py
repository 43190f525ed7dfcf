"""Any dated CSV with a label column, in the order it happened: every other column is asked with each row."""

import csv
from itertools import islice
from pathlib import Path

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from ecluse import Boolean, Category, Entity, Instant, Label, Number, Range, Table, model
from ecluse.training.encoders import encoder

FILE, ROW, TIME, LABEL = "stream.csv", "row", "at", "label"

with Path(__file__).with_name(FILE).open(newline="", encoding="utf-8") as lines:
    SAMPLE = list(islice(csv.DictReader(lines), 5_000))


def column(values):
    """A number when every value is one, else a word."""
    try:
        return Number(nulls=0.5) if [float(value) for value in values if value] else None
    except ValueError:
        return Category(nulls=0.5)


asked = {name: column([line[name] for line in SAMPLE]) for name in SAMPLE[0] if name not in (ROW, TIME, LABEL)}
rows = Table(
    "stream", key=Entity(ROW), event_time=TIME, zone="UTC", columns={TIME: Instant(), LABEL: Boolean(), **asked}
)
truth = Label("truth", rows, column=LABEL)


@model("stream", predicts=truth, features=[], request=asked, accepts="features", judged_by="roc_auc")
def predict(learning_rate=Range(0.02, 0.3, default=0.1, log=True), trees=Range(10, 300, default=60)):
    """Boosted trees."""
    return make_pipeline(
        encoder(), HistGradientBoostingClassifier(learning_rate=learning_rate, max_iter=trees, early_stopping=False)
    )
