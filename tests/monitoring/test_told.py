"""Truths told late, twice, out of order, early, for nobody: one truth a question, everything else counted, whatever the order."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.monitoring.records import prediction

from ecluse.core.instants import parse_instant, to_micros
from ecluse.monitoring.performance import join
from ecluse.monitoring.told import RANK, Asked, Settled, Told, asked_by, settle

AT = to_micros(parse_instant("2024-01-31"))
DAY = 86_400_000_000
ASKED = Asked(
    {"r1": ("u1", 10), "r2": ("u2", 10), "r3": "r3"}, {("u1", 10): 10, ("u2", 10): 10, "r3": 12, ("u4", 30): 30}
)
DELAY, NOW = 5, 20
TELLINGS = st.lists(
    st.one_of(
        st.builds(
            Told,
            st.sampled_from(["table", "entity"]),
            st.tuples(st.sampled_from(["u1", "u2", "u4", "u9"]), st.sampled_from([10, 30])),
            st.booleans(),
            st.integers(5, 25),
        ),
        st.builds(
            Told, st.just("request"), st.sampled_from(["r1", "r2", "r3", "r9"]), st.booleans(), st.integers(5, 25)
        ),
    ),
    max_size=30,
)


def settled(told: list[Told], now: int = NOW) -> Settled:
    return settle(told, ASKED, delay=DELAY, now=now)


def truths(found: Settled) -> dict[Any, Any]:
    return {**found.truths.by_entity, **found.truths.by_request}


@given(TELLINGS, st.randoms())
def test_order_does_not_matter(told: list[Told], chance: Any) -> None:
    shuffled = list(told)
    chance.shuffle(shuffled)
    assert settled(shuffled) == settled(told)


@given(TELLINGS)
def test_every_telling_is_used_or_held(told: list[Told]) -> None:
    found = settled(told)
    total, used, _, *held = astuple(found.counts)
    assert total == len(told) == used + sum(held)
    assert len(found.quarantine) == sum(held)
    assert used == len(truths(found))
    assert found.counts.late <= used


@given(TELLINGS, st.data())
def test_tellings_repeated_change_no_truth(told: list[Told], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(told), max_size=20)) if told else []
    once, more = settled(told), settled(told + again)
    assert truths(more) == truths(once)
    kept = ("used", "late", "orphans", "early")
    assert [getattr(more.counts, name) for name in kept] == [getattr(once.counts, name) for name in kept]


@given(TELLINGS)
def test_against_a_plain_reading_of_the_rule(told: list[Told]) -> None:
    """Another way to the same truths: sort all that is known by now, let the later overwrite."""
    found: dict[Any, bool] = {}
    for each in sorted((t for t in told if t.known <= NOW), key=lambda t: (RANK[t.source], t.known, str(t.value))):
        about = ASKED.requests.get(each.about, each.about) if isinstance(each.about, str) else each.about
        found[about] = bool(each.value)
    ripe = {key: value for key, value in found.items() if key in ASKED.moments and ASKED.moments[key] + DELAY <= NOW}
    assert truths(settled(told)) == ripe


@given(TELLINGS)
def test_what_was_early_is_used_once_it_is_mature(told: list[Told]) -> None:
    later = settled(told, now=100)
    assert later.counts.early == later.counts.future == 0
    assert {held.told.about for held in later.quarantine if held.reason == "orphan"} <= {
        ("u9", 10),
        ("u9", 30),
        "r9",
    } | {
        ("u1", 30),
        ("u2", 30),
        ("u4", 10),
    }


def test_reasons() -> None:
    told = [
        Told("entity", ("u1", 10), True, 16),
        Told("entity", ("u1", 10), True, 16),
        Told("table", ("u1", 10), False, 18),
        Told("request", "r2", True, 14),
        Told("request", "r2", False, 19),
        Told("entity", ("u4", 30), True, 16),
        Told("request", "r9", True, 16),
        Told("request", "r3", True, 21),
    ]
    found = settled(told)
    assert truths(found) == {("u1", 10): True, ("u2", 10): False}
    assert astuple(found.counts) == (8, 2, 2, 1, 2, 1, 0, 2)
    assert [held.reason for held in found.quarantine] == [
        "conflict",
        "conflict",
        "duplicate",
        "future",
        "future",
        "orphan",
    ]
    why = {held.why for held in found.quarantine if held.reason == "conflict"}
    assert why == {"True of the entity is believed before the table's", "False of the request is newer"}
    early = settle([Told("request", "r3", True, 13)], ASKED, delay=DELAY, now=16)
    assert [(held.reason, held.why) for held in early.quarantine] == [
        ("early", "its label is mature from 1970-01-01T00:00:00.000017Z on")
    ]


def test_true_and_one_are_not_the_same() -> None:
    found = settled([Told("entity", ("u1", 10), True, 16), Told("entity", ("u1", 10), 1.0, 17)])
    assert (found.counts.conflicts, found.counts.duplicates) == (1, 0)


def test_a_planted_fold_that_counts_repeats_is_found_out() -> None:
    """Without the question as the unit, the same truth told thrice is three truths."""
    told = [Told("request", "r1", True, 16)] * 3

    def careless(told: list[Told]) -> int:
        return sum(each.about in ASKED.requests for each in told)

    assert settled(told).counts.used == 1 != careless(told)


def test_questions_of_predictions() -> None:
    records = [
        prediction(1),
        prediction(2, entity=None, request_id="mine"),
        prediction(3, entity="u1", request_id="again"),
        prediction(4, request_id="reused", entity="u8", time="2024-02-01T00:00:00.000000Z"),
        prediction(5, request_id="reused", entity="u9", time="2024-02-02T00:00:00.000000Z"),
    ]
    asked = asked_by(records)
    assert asked_by(list(reversed(records))) == asked
    assert asked.requests == {"r-1": ("u1", AT), "mine": "mine", "again": ("u1", AT), "reused": ("u9", AT)}
    assert asked.moments == {("u1", AT): AT, "mine": AT, ("u8", AT): AT, ("u9", AT): AT}


def test_a_truth_about_an_earlier_request_counts_for_the_question() -> None:
    records = [prediction(1, score=0.2), prediction(2, entity="u1", score=0.9)]
    found = settle([Told("request", "r-1", True, AT + DAY)], asked_by(records), delay=0, now=AT + DAY)
    joined = join(records, found.truths)
    assert [(record["score"], truth) for record, truth in zip(joined.records, joined.truths, strict=True)] == [
        (0.9, True)
    ]
