"""Asking for a retraining: by hand, from outside with a signature, by the clock and the data; and the switch that stops it all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.loop.worlds import MODEL, SETTINGS, candidate, world_in

from ecluse.adapters.clock import DataClock
from ecluse.core.codec import canonical, digest_bytes
from ecluse.core.errors import InvalidInput, NotAllowed, NotFound, Unavailable
from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import Triggers
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.asking import MOST_BYTES, SECRET, ask, outside, raise_due, sign
from ecluse.loop.pause import pause, paused, resume, said, stop_if_paused
from ecluse.loop.promote import promote
from ecluse.loop.runner import WORK, handle, react, unhandled
from ecluse.loop.story import story_so_far
from ecluse.loop.triggers import Due
from ecluse.testing.twins import Remembering, VirtualTime

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
KEY = "a secret of thirty-two characters"


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime(BEGAN)


@pytest.fixture
def world(tmp_path: Path, time: VirtualTime) -> World:
    world = world_in(tmp_path, clock=time)
    declaration = canonical({"models": [{"name": MODEL, "predicts": {"table": {"name": "labels"}}}]})
    world.state.save_declaration(digest_bytes(declaration), declaration)
    return world


def ingested(world: World, rows: int) -> None:
    evidence = {"table": "labels", "rows": rows}
    world.state.append(Event("data.ingested", world.clock.now(), "ana", evidence=evidence))


def champion(world: World, name: str = "a") -> None:
    version = candidate(world, name)
    promote(world, SETTINGS, MODEL, version.number, reason="first", actor="ana")


def settings(**limits: Any) -> Settings:
    return replace(SETTINGS, triggers=Triggers(**limits))


def due(world: World, **limits: Any) -> list[str]:
    return [row.event.evidence["trigger"] for row in raise_due(world, settings(**limits))]


# ------------------------------------------------------------------------------------------------------ by hand, from outside


def test_a_person_asks(world: World) -> None:
    row = ask(world, MODEL, Due("manual", "", "new prices"), actor="ana")
    assert (row.event.kind, row.event.actor, row.event.reason) == ("trigger.raised", "ana", "new prices")
    assert [each.sequence for each in unhandled(world)] == [row.sequence]
    with pytest.raises(NotFound):
        ask(world, "other", Due("manual", "", "why"), actor="ana")
    with pytest.raises(InvalidInput):
        ask(world, MODEL, Due("whim", "", "why"), actor="ana")


def told(**values: Any) -> bytes:
    return json.dumps({"id": "77", "model": MODEL, "why": "prices changed", **values}).encode()


def test_an_event_from_outside_is_signed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, KEY)
    payload = told(source="erp")
    row = outside(world, SETTINGS, payload, sign(payload, KEY))
    facts = {"trigger": "outside", "key": "outside/77", "source": "erp"}
    assert (row.event.actor, row.event.evidence) == ("outside", facts)


def test_a_signed_event_sent_again_is_the_same_fact(world: World) -> None:
    first = outside(world, SETTINGS, told(), sign(told(), KEY), secret=KEY)
    ask(world, MODEL, Due("manual", "", "something else"), actor="ana")
    before = list(world.state.ledger())
    for again in (told(), told(why="in other words")):
        assert outside(world, SETTINGS, again, sign(again, KEY), secret=KEY) == first
    assert list(world.state.ledger()) == before
    assert outside(world, SETTINGS, told(id="78"), sign(told(id="78"), KEY), secret=KEY).sequence > first.sequence


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (told(), ""),
        (told(), sign(told(), "another")),
        (told(), sign(told(), KEY).removeprefix("sha256=")),
        (told(id="78"), sign(told(), KEY)),
        (told(), "sha256=\udcff"),
    ],
)
def test_a_signature_that_is_not_of_these_bytes_is_refused(world: World, payload: bytes, signature: str) -> None:
    with pytest.raises(NotAllowed):
        outside(world, SETTINGS, payload, signature, secret=KEY)
    assert list(world.state.ledger()) == [], "nobody unknown makes the ledger grow"


def test_without_a_secret_nothing_is_accepted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    with pytest.raises(NotAllowed, match="no outside event is accepted"):
        outside(world, SETTINGS, told(), sign(told(), ""))
    monkeypatch.setenv(SECRET, KEY[:31])
    with pytest.raises(NotAllowed, match=r"too short .*at least 32 characters"):
        outside(world, SETTINGS, told(), sign(told(), KEY[:31]))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        told(more="x"),
        told(why=""),
        told(id=7),
        told(why="x" * 1_001),
        told(why="two\nlines"),
        told(source="\x1b[2J"),
        told(id="\ud800"),
        b" " * MOST_BYTES + b"{}",
    ],
)
def test_what_is_no_event_is_refused(world: World, payload: bytes) -> None:
    with pytest.raises(InvalidInput):
        outside(world, SETTINGS, payload, sign(payload, KEY), secret=KEY)
    with pytest.raises(NotFound):
        outside(world, SETTINGS, told(model="x"), sign(told(model="x"), KEY), secret=KEY)


# --------------------------------------------------------------------------------------------------------- clock and data


def test_a_schedule_counts_from_the_last_training(world: World, time: VirtualTime) -> None:
    month = timedelta(days=30)
    assert due(world, every=month) == [], "nothing was trained yet"
    champion(world)  # its training stands in the ledger as of 2024-01-31
    assert due(world, every=month) == ["schedule"]
    assert due(world, every=month) == [], "once for one cause"
    time.seconds = 10 * 86_400
    assert due(world, every=month) == []


def test_new_rows_of_the_labels_table_are_counted_since_the_last_training(world: World) -> None:
    ingested(world, 1_000)
    champion(world)
    ingested(world, 99)
    assert due(world, new_rows=100, new_share=0.1) == []
    ingested(world, 1)
    assert due(world, new_rows=100) == ["new_data"]
    assert due(world, new_share=0.1) == [], "the same cause"
    champion(world, "b")
    assert due(world, new_rows=100, new_share=0.1) == [], "the new champion knows them"


def test_a_data_clock_without_data_raises_nothing(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world = replace(world, clock=DataClock(world.state))
    assert raise_due(world, settings(every=timedelta(days=1))) == []


def test_what_was_deferred_comes_back_when_its_time_has_come(world: World, time: VirtualTime) -> None:
    limits = settings(debounce=timedelta(hours=1))
    durable = Remembering({})
    ask(world, MODEL, Due("slo", "a", "latency"), actor="slo")
    ask(world, MODEL, Due("outside", "b", "prices"), actor="erp")
    rows = react(world, limits, durable)
    assert [row.event.evidence["why"] for row in rows] == ["debounced"] * 2
    assert react(world, limits, durable) == []
    time.seconds = 3_600
    [again] = raise_due(world, limits)
    assert again.event.evidence["trigger"] == "slo"
    assert again.event.evidence["deferred"] == rows[0].sequence


def test_what_another_process_holds_the_lease_against_is_asked_again(world: World) -> None:
    """It took the lease and has not told yet what it decided."""
    durable = Remembering({WORK: lambda step, sequence: handle(world, None, SETTINGS, [], step, sequence)})  # type: ignore[arg-type]
    lease = world.state.take_lease(f"retrain/{MODEL}", "event 99", 60.0)
    assert lease is not None
    ask(world, MODEL, Due("outside", "outside/77", "prices changed"), actor="outside")
    [held] = react(world, SETTINGS, durable)
    assert held.event.evidence["why"] == "running"
    world.state.release_lease(lease)
    [again] = raise_due(world, SETTINGS)
    assert again.event.evidence["trigger"] == "outside"


# ------------------------------------------------------------------------------------------------------------- the switch


def test_a_paused_loop_decides_nothing_and_says_so(world: World) -> None:
    ask(world, MODEL, Due("manual", "", "now"), actor="ana")
    stopped = pause(world, reason="audit", actor="ben")
    assert paused(world) == stopped
    assert said(stopped).endswith(": audit")
    before = len(list(world.state.ledger()))
    assert react(world, SETTINGS, Remembering({})) == []
    assert len(list(world.state.ledger())) == before
    with pytest.raises(Unavailable, match="paused by ben"):
        stop_if_paused(world)
    with pytest.raises(Unavailable, match="paused by ben"):
        handle(world, None, SETTINGS, [], lambda name, work: work(), 1)  # type: ignore[arg-type]
    with pytest.raises(NotAllowed, match="paused by ben"):
        pause(world, reason="again", actor="ana")
    assert resume(world, reason="done", actor="ana") == stopped
    assert paused(world) is None
    with pytest.raises(NotAllowed, match="not paused"):
        resume(world, reason="again", actor="ana")
    assert [row.event.kind for row in world.state.ledger()][-2:] == ["loop.paused", "loop.resumed"]
    assert len(unhandled(world)) == 1


def test_a_pause_in_the_middle_of_a_chain_leaves_the_rest_for_later(world: World) -> None:
    """The step under way ends as not done; after `resume` the chain goes on, and its decision stands."""
    done: list[str] = []

    def do(hands: Any, command: Any, reproduced: Any) -> Any:
        from ecluse.loop.carry_out import Done

        if not done:
            done.append("paused")
            pause(world, reason="audit", actor="ben")
            stop_if_paused(world)
        done.append(type(command).__name__)
        return Done(None)

    def work(step: Any, sequence: int) -> Sequence[int]:
        return handle(world, None, SETTINGS, [], step, sequence, do)  # type: ignore[arg-type]

    durable = Remembering({WORK: work})
    ask(world, MODEL, Due("manual", "", "now"), actor="ana")
    with pytest.raises(Unavailable):
        react(world, SETTINGS, durable)
    assert react(world, SETTINGS, durable) == []
    resume(world, reason="done", actor="ana")
    react(world, SETTINGS, durable)
    assert done == ["paused", "Retrain"]
    decided = [row for row in world.state.ledger() if row.event.kind == "loop.decided"]
    assert len(decided) == 1


def test_the_story_is_read_once_and_anew_when_the_ledger_is_another(world: World, tmp_path: Path) -> None:
    champion(world)
    first = story_so_far(world)
    assert story_so_far(world) == first
    ask(world, MODEL, Due("manual", "k", "now"), actor="ana")
    rows: list[LedgerRow] = list(world.state.ledger())
    assert story_so_far(world).of(MODEL).keys == {"k": rows[-1].sequence}
    other = replace(world_in(tmp_path / "other"), home=world.home)
    assert story_so_far(other).of(MODEL).keys == {}
