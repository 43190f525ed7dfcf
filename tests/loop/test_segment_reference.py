"""Segment references: described from the rows a version was judged on, kept beside its bundle, and what a monitor judges segments by."""

from dataclasses import replace

import polars as pl
from tests.loop.test_monitor import CHURN, SETTINGS, USAGE, Served, served
from tests.monitoring.records import population

from ecluse.core.settings import Gates
from ecluse.core.view import FeatureView, last
from ecluse.loop.segment_reference import FILE, LEAST, MOST, describe_segments, read_segments, write_segments
from ecluse.stats.reference import CategoryReference, NumberReference

__all__ = ["served"]

MODEL = replace(CHURN, features=(FeatureView("use", USAGE, {"hours": last("hours")}),))


def test_each_value_with_enough_rows_is_described_without_itself() -> None:
    frame = pl.DataFrame({"hours": [1.0] * 60 + [2.5] * 50 + [None] * 55 + [9.0] * (LEAST - 1)})
    found = describe_segments(MODEL, frame, ["hours", "unknown"])
    assert set(found) == {"hours"}
    assert set(found["hours"]) == {"1", "2.5", "missing"}, "named as the gates name segments; the small one is left out"
    assert found["hours"]["1"] == {}, "a segment's own column says nothing"


def test_a_column_of_many_values_is_cut_to_the_greatest() -> None:
    hours = [float(value) for value in range(30) for _ in range(LEAST + value)]
    found = describe_segments(MODEL, pl.DataFrame({"hours": hours}), ["hours"])
    assert set(found["hours"]) == {str(value) for value in range(30 - MOST, 30)}


def test_a_monitor_judges_the_segments_it_finds_beside_the_bundle(served: Served) -> None:
    bundle = served.world.state.version("churn", 1).bundle
    columns = pl.DataFrame(population(5_000, 3))
    usage = replace(USAGE, columns=dict.fromkeys(("hours", "age"), USAGE.columns["hours"]))
    kinds = FeatureView("use", usage, {name: last(name) for name in ("hours", "age")})
    model = replace(CHURN, features=(kinds,))
    assert read_segments(served.world, bundle, ["age"]) == {}, "gated before segments were declared"
    served.traffic(3_000, shift=1.0)
    settings = replace(SETTINGS, gates=Gates(segments=("age",)))
    assert served.monitor(settings).segments == ()
    frame = columns.with_columns(pl.when(pl.col("age") < 49).then(30.0).otherwise(60.0).alias("age"))
    write_segments(served.world, bundle, model, frame, ["age"])
    assert served.world.bundles.read_beside(bundle, FILE)
    references = read_segments(served.world, bundle, ["age"])
    assert set(references["age"]) == {"30", "60"}
    assert isinstance(references["age"]["30"]["hours"], NumberReference)
    assert not isinstance(references["age"]["30"]["hours"], CategoryReference)
    report = served.monitor(replace(settings, monitoring=replace(settings.monitoring, min_samples=20)))
    assert {each.segment: each.drifted for each in report.segments} == {"age=30": ("hours",), "age=60": ("hours",)}
    assert {f.subject for f in report.verdict.failed if f.check == "segment_drift"} == {"age=30", "age=60"}
    assert read_segments(served.world, bundle, ["plan"]) == {}
