"""Sketches: parts added are the whole, segments are judged against their own reference, decoded records are the rows they hold."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitoring.records import KINDS, population, prediction, predictions

from ecluse.core.expression import Value
from ecluse.core.loop_settings import Monitoring
from ecluse.core.recipe import Split, held_position
from ecluse.monitoring.decode import Known, least_digest, make_decode
from ecluse.monitoring.drift.counts import added, coarse, count_values, edges_of
from ecluse.monitoring.sketch import Sketch, sketch_of, together
from ecluse.monitoring.watch import judge
from ecluse.monitoring.window import by_version, make_window
from ecluse.stats.reference import NumberReference, Reference, describe, describe_column

COLUMNS = population(5_000, 0)
REFERENCE = describe(COLUMNS, KINDS, np.random.default_rng(1).random(5_000), [True, False] * 2_500)


def _sketch(records: list[dict[str, Any]], reference: Reference = REFERENCE, **more: Any) -> Sketch:
    return sketch_of(make_window("churn", 1, by_version(records, "churn"), Split("entity", 0.25)), reference, **more)


def _records(rows: int, seed: int, **moved: Any) -> list[dict[str, Any]]:
    columns = population(rows, seed, **moved)
    return predictions(columns, np.random.default_rng(seed).random(rows).tolist())


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=60), st.integers(0, 60))
def test_the_counts_of_two_parts_are_those_of_the_whole(values: list[Value], cut: int) -> None:
    reference = describe_column(np.arange(200.0), "number")
    whole = count_values(reference, values)
    parts = added([count_values(reference, values[:cut]), count_values(reference, values[cut:])])
    assert (parts.rows, parts.missing, parts.low, parts.high) == (whole.rows, whole.missing, whole.low, whole.high)
    assert not whole.rows or parts.bins == whole.bins
    assert parts.mean == pytest.approx(whole.mean, abs=1e-6)
    assert parts.sd == pytest.approx(whole.sd, abs=1e-6)


def test_coarse_bins_are_those_counted_over_the_references_own_edges() -> None:
    rng = np.random.default_rng(2)
    for values in (rng.normal(size=3_000), rng.poisson(2, 3_000), np.full(50, 3.0), rng.lognormal(0, 2, 777)):
        reference = describe_column(values, "number")
        assert isinstance(reference, NumberReference)
        assert set(reference.edges) <= set(edges_of(reference))
        assert coarse(reference, count_values(reference, values.tolist()).bins) == list(reference.counts)
        old = replace(reference, fine_edges=(), fine_counts=(), low=None, high=None)
        assert coarse(old, count_values(old, values.tolist()).bins) == list(reference.counts)


def test_a_reference_of_before_the_finer_bins_is_still_judged() -> None:
    features = {
        name: replace(each, fine_edges=(), fine_counts=(), low=None, high=None)
        if isinstance(each, NumberReference)
        else each
        for name, each in REFERENCE.features.items()
    }
    old = replace(REFERENCE, features=features)
    calm, moved = _sketch(_records(2_000, 3), old), _sketch(_records(2_000, 3, shift=1.0), old)
    assert judge(old, calm, Monitoring()).drifted == ()
    watched = judge(old, moved, Monitoring())
    assert watched.drifted == ("hours",)
    [hours] = [each for each in watched.shifts if each.name == "hours"]
    assert "ks" in hours.moved
    assert "wasserstein" not in hours.measured


def test_a_segment_that_moves_is_seen_where_the_whole_hides_it() -> None:
    references = {"plan": {p: describe_part(p) for p in ("Basic", "Gold", "Silver")}}
    records = _records(4_000, 5)
    for record in records:  # a tenth of all rows, every row of a plan
        if record["inputs"]["plan"] == "Gold":
            record["inputs"] |= {"hours": (record["inputs"]["hours"] or 20.0) + 9.0, "age": 30.0}
    limits = Monitoring(drift_share=0.75)
    watched = judge(REFERENCE, _sketch(records, segments=references), limits, segments=references)
    found = {each.segment: each.drifted for each in watched.segments}
    assert found == {"plan=Basic": (), "plan=Gold": ("age", "hours"), "plan=Silver": ()}
    assert [(f.check, f.subject) for f in watched.verdict.failed] == [("segment_drift", "plan=Gold")]
    calm = judge(REFERENCE, _sketch(_records(4_000, 6), segments=references), limits, segments=references)
    assert calm.verdict.passed
    few = judge(REFERENCE, _sketch(records[:400], segments=references), limits, segments=references)
    assert {each.segment for each in few.segments} < {"plan=Basic", "plan=Gold", "plan=Silver"}


def describe_part(plan: str) -> dict[str, Any]:
    rows = [i for i, each in enumerate(COLUMNS["plan"]) if each == plan]
    return {
        name: describe_column([COLUMNS[name][i] for i in rows], kind) for name, kind in KINDS.items() if name != "plan"
    }


def test_importance_weighs_what_moved_where_it_is_asked_for() -> None:
    sketch = _sketch(_records(2_000, 3, shift=1.0))
    weigh = Monitoring(weights="importance", drift_share=0.3)
    light, heavy = {"hours": 0.01, "age": 0.09}, {"hours": 0.09, "age": 0.01}

    def share(importance: dict[str, float]) -> object:
        [finding] = [
            f
            for f in judge(REFERENCE, sketch, weigh, importance=importance).verdict.findings
            if f.check == "drift_share"
        ]
        return finding.measured

    assert share(light) == pytest.approx(0.1)
    assert share(heavy) == pytest.approx(0.9)
    assert share({}) == 0.25, "equal weights until it was measured"


def test_decoded_records_are_the_window_the_rows_make() -> None:
    records = [
        *_records(500, 7),
        prediction(900, version=2),
        {"kind": "outcome", "model": "churn", "time": "2024-01-01T00:00:00Z"},
    ]
    records.insert(3, prediction(901, model="other"))
    split = Split("entity", 0.25)
    decode = make_decode("churn", {1: Known(REFERENCE, split)})
    decoded = decode([msgspec.json.encode(each) for each in records], None)
    window = make_window("churn", 1, by_version(records, "churn"), split)
    assert decoded.versions == {1: 500, 2: 1}
    assert decoded.outcomes == 1
    found = decoded.windows[1]
    numbers = {name for name, kind in KINDS.items() if kind == "number"}
    for name, values in window.inputs.items():
        expected = [math.nan if value is None else value for value in values] if name in numbers else values
        np.testing.assert_equal(list(found.inputs[name]), expected)
    assert (found.scores, found.fresh, found.first, found.last, found.ends) == (
        window.scores, window.fresh, window.first, window.last, window.ends,
    )  # fmt: skip
    assert sketch_of(found, REFERENCE) == sketch_of(window, REFERENCE)
    later = decode([msgspec.json.encode(each) for each in records], datetime(2025, 1, 1, tzinfo=UTC))
    assert later.versions == {}


def test_a_value_of_another_kind_is_read_too() -> None:
    records = [prediction(1, inputs={"hours": "many", "plan": "Gold"}), prediction(2, inputs={"hours": 4, "plan": 7})]
    decode = make_decode("churn", {1: Known(REFERENCE, None)})
    window = decode([msgspec.json.encode(each) for each in records], None).windows[1]
    assert list(window.inputs["plan"]) == ["Gold", 7]
    sketch = sketch_of(window, REFERENCE)
    assert (sketch.columns["hours"].missing, sketch.columns["plan"].unseen) == (1, 1)
    with pytest.raises(msgspec.DecodeError):
        decode([b"{"], None)


@given(st.lists(st.tuples(st.integers(0, 899), st.sampled_from(["Platinum", "", None, 7, True])), max_size=4))
def test_a_category_no_reference_holds_is_counted_wherever_it_comes(strange: list[tuple[int, Value]]) -> None:
    records = _records(900, 9)
    for place, value in strange:
        records[place]["inputs"]["plan"] = value
    decode = make_decode("churn", {1: Known(REFERENCE, None)})
    found = decode([msgspec.json.encode(each) for each in records], None).windows[1]
    window = make_window("churn", 1, by_version(records, "churn"))
    assert list(found.inputs["plan"]) == window.inputs["plan"]
    assert sketch_of(found, REFERENCE) == sketch_of(window, REFERENCE)


@given(st.text(max_size=8), st.floats(0.01, 0.99))
def test_bytes_compare_as_the_position_does(key: str, held_out: float) -> None:
    import hashlib

    below = hashlib.sha256(key.encode()).digest()[:8] < least_digest(held_out)
    assert below == (held_position(key) < held_out)


def test_parts_are_one_sketch_in_any_cut() -> None:
    records = _records(900, 8)
    whole = _sketch(records)
    parts = together([_sketch(records[:100]), _sketch(records[100:101]), _sketch(records[101:])])
    assert (parts.rows, parts.fresh, parts.ends) == (whole.rows, whole.fresh, whole.ends)
    assert parts.columns["plan"] == whole.columns["plan"]
    assert parts.columns["hours"].bins == whole.columns["hours"].bins
