"""The guard over real files: a state, its ledger, a published document; the workers' text is written by their own counters."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.loop.worlds import candidate, world_in

from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.core.document import read_document
from ecluse.core.errors import Corrupt, InvalidInput, NotAllowed, NotFound, Unavailable
from ecluse.core.event import Event
from ecluse.core.loop_settings import Rollback
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.asking import sign
from ecluse.loop.commands import Promote, Wait
from ecluse.loop.incident import hold_releases
from ecluse.loop.incident_reports import report_incident
from ecluse.loop.pause import pause
from ecluse.loop.promote import promote
from ecluse.loop.release_guard import Sight, guard_releases
from ecluse.serving.metrics import Metrics

SETTINGS = Settings(project="water", rollback=Rollback(on=("errors", "business", "incident"), metrics={"revenue": 0.9}))
SECRET = "a secret of thirty-two characters"


class Clock:
    """The project's clock, moved by hand."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, to: datetime) -> None:
        self.time = to


class Place:
    """A world with versions released one after the other, and a guard that looks at it."""

    def __init__(self, home: Path, settings: Settings = SETTINGS) -> None:
        self.clock, self.settings, self.metrics = Clock(), settings, Metrics()
        self.world: World = replace(
            world_in(home, clock=self.clock), read_predictions=lambda since, until, last, *, model=None: iter(())
        )
        self.sights: dict[str, Sight] = {}

    def release(self, *names: str) -> None:
        for name in names:
            number = candidate(self.world, name).number
            promote(self.world, self.settings, "churn", number, reason="passed", actor="ana")

    def answer(self, version: int, good: int, bad: int = 0) -> None:
        for status, code, times in ((200, "ok", good), (500, "not_finite", bad)):
            for _ in range(times):
                self.metrics.count("/predict", "churn", str(version), status, code, 0.001)

    def look(self, read: Callable[[], str] | None = None) -> list[str]:
        rows = guard_releases(self.world, self.settings, self.sights, read or (lambda: self.metrics.render().decode()))
        return [row.event.kind for row in rows]

    @property
    def champion(self) -> int | None:
        return self.world.state.rollout("churn").champion

    def told(self, kind: str) -> list[Event]:
        return [row.event for row in self.world.state.ledger() if row.event.kind == kind]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.release("one", "two")
    return made


def test_failures_take_a_release_back_with_their_numbers(place: Place) -> None:
    assert place.look() == []
    place.answer(2, 180, 20)
    assert place.look() == ["incident.opened", "version.rolled_back"]
    assert place.champion == 1
    [opened] = place.told("incident.opened")
    assert (opened.evidence["answers"], dict(opened.evidence["failures"])) == (200, {"not_finite": 20})
    [finding] = opened.evidence["findings"]
    assert (finding["check"], finding["measured"], finding["limit"]) == ("errors", 0.1, 0.02)
    published = place.world.publisher.current()
    assert published is not None
    assert read_document(published.payload).models["churn"].champion == 1


def test_the_incident_closes_after_the_calm_and_says_whether_it_was_in_time(place: Place) -> None:
    place.answer(2, 100, 100)
    place.look()
    assert place.look() == []
    place.clock.time += timedelta(minutes=11)
    assert place.look() == ["incident.closed"]
    [closed] = place.told("incident.closed")
    assert closed.evidence["seconds"] < 60
    assert "within the declared 1m" in closed.reason
    assert place.look() == []


def test_failures_of_the_version_before_are_not_the_next_one_s(place: Place) -> None:
    place.answer(1, 10, 500)
    place.answer(2, 200)
    assert place.look() == []


def test_what_was_opened_before_a_kill_is_done_by_the_next_process(place: Place) -> None:
    now = place.clock.now()
    place.world.state.append(Event("incident.opened", now, "loop", "churn", 2, "breaches errors", {"to": 1}))
    assert place.look() == ["version.rolled_back"]
    assert place.champion == 1
    assert len(place.told("incident.opened")) == 1


def test_a_paused_loop_takes_nothing_back(place: Place) -> None:
    pause(place.world, reason="maintenance", actor="ana")
    place.answer(2, 0, 200)
    assert place.look() == []
    assert place.champion == 2


def test_without_an_answer_from_workers_nothing_is_judged(place: Place) -> None:
    def nobody() -> str:
        raise Unavailable("no server answers")

    assert place.look(nobody) == []


def test_an_only_version_stays_and_a_person_is_called_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.release("one")
    place.answer(1, 0, 200)
    assert place.look() == ["alert.raised"]
    assert place.look() == []
    assert "no version to go back to" in place.told("alert.raised")[0].reason


def test_the_loop_waits_for_a_person_after_a_rollback(place: Place) -> None:
    release = Promote("churn", 3, 9, "gates passed")
    assert hold_releases(place.world, place.settings, "churn", [release]) == (release,)
    place.answer(2, 0, 200)
    place.look()
    [held] = hold_releases(place.world, place.settings, "churn", [release])
    assert isinstance(held, Wait)
    assert "ecluse promote 3" in held.reason


def payload(**told: Any) -> bytes:
    return json.dumps({"id": "a-1", "model": "churn", "why": "prices are wrong"} | told).encode()


def test_a_signed_report_takes_a_release_back(place: Place) -> None:
    body = payload(version=2)
    row = report_incident(place.world, body, sign(body, SECRET), secret=SECRET)
    assert (
        report_incident(place.world, body, sign(body, SECRET), secret=SECRET) == row
    )  # the same id is the same report
    assert place.look() == ["incident.opened", "version.rolled_back"]
    assert "prices are wrong" in place.told("version.rolled_back")[0].reason


def test_a_business_metric_below_its_least_value_takes_a_release_back(place: Place) -> None:
    for number, (value, expected) in enumerate([(0.95, []), (0.5, ["incident.opened", "version.rolled_back"])]):
        body = payload(id=f"m-{number}", metric="revenue", value=value)
        report_incident(place.world, body, sign(body, SECRET), secret=SECRET)
        assert place.look() == expected


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"[]", InvalidInput),
        (b"nothing", InvalidInput),
        (payload(more=1), InvalidInput),
        (payload(metric="revenue"), InvalidInput),
        (payload(metric="revenue", value="many"), InvalidInput),
        (payload(metric="revenue", value=float("nan")), InvalidInput),
        (payload(version="2"), InvalidInput),
        (payload(why=""), InvalidInput),
        (payload(why="two\nlines"), InvalidInput),
        (payload(metric="\x9b2J", value=1), InvalidInput),
        (payload(model="fraud"), NotFound),
    ],
)
def test_what_is_no_report_is_refused(place: Place, body: bytes, error: type[Exception]) -> None:
    before = len(list(place.world.state.ledger()))
    with pytest.raises(error):
        report_incident(place.world, body, sign(body, SECRET), secret=SECRET)
    assert len(list(place.world.state.ledger())) == before


def test_a_report_nobody_signed_is_refused(place: Place) -> None:
    for signature, secret in (
        ("sha256=00", SECRET),
        (sign(payload(), "another"), SECRET),
        (sign(payload(), SECRET), ""),
        (sign(payload(), SECRET[:31]), SECRET[:31]),
    ):
        with pytest.raises(NotAllowed):
            report_incident(place.world, payload(), signature, secret=secret)
    assert not place.told("incident.reported")


def test_a_model_that_cannot_be_looked_at_hides_no_other(tmp_path: Path) -> None:
    place = Place(tmp_path, replace(SETTINGS, rollback=Rollback(on=("errors", "output"))))
    aged = candidate(place.world, "aged", "aged")
    promote(place.world, place.settings, "aged", aged.number, reason="passed", actor="ana")
    place.release("one", "two")
    place.world = replace(
        place.world, read_predictions=lambda since, until, last, *, model=None: iter([asked("aged", 1)])
    )
    (tmp_path / "bundles" / aged.bundle / "model.onnx").write_bytes(b"other bytes")
    place.answer(2, 100, 100)
    with pytest.raises(Corrupt, match=aged.bundle[:12]):
        place.look()
    assert place.champion == 1
    assert len(place.told("incident.opened")) == 1
    with pytest.raises(Corrupt, match=aged.bundle[:12]):
        place.look()


def test_a_model_with_a_hundredth_of_the_traffic_is_judged_by_its_own_answers(tmp_path: Path) -> None:
    place = Place(tmp_path, replace(SETTINGS, rollback=Rollback(on=("latency",), latency=2.0)))
    place.world = replace(place.world, read_predictions=JournalArchive(tmp_path / "journal").read)
    place.release("one", "two")

    def serve(start: int, rows: int, version: int, latency_us: int) -> None:
        """Every hundredth answer is of this model."""
        records = [
            asked("aged", 1, i) if i % 100 else asked("churn", version, i) | {"latency_us": latency_us}
            for i in range(start, start + rows)
        ]
        with Journal.open(tmp_path / "journal", "w1", durability="process") as journal:
            journal.append_many([msgspec.json.encode(record) for record in records])

    serve(0, 6_000, 1, 2_000)
    assert place.look() == []
    for start in range(6_000, 10_000, 1_000):
        serve(start, 1_000, 2, 60_000)
        assert place.look() == [], "too few to say"
    serve(10_000, 1_000, 2, 60_000)
    assert place.look() == ["incident.opened", "version.rolled_back"]
    [opened] = place.told("incident.opened")
    assert opened.evidence["journaled"] == 50


def asked(model: str, version: int, number: int = 0) -> dict[str, Any]:
    """A prediction as the journal has it."""
    at = "2024-01-31T00:00:00.000000Z"
    return {"kind": "prediction", "time": at, "id": f"{model}-{version}-{number}", "model": model, "version": version}
