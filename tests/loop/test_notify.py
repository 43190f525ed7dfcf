"""Who asked is told of each event once and in order; who cannot be told holds nobody up, and that is noted."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.adapters.receiver import Receiver, dripping, receiving
from tests.loop.worlds import world_in

from ecluse.adapters.webhook import post, sign
from ecluse.core.event import Event
from ecluse.core.loop_settings import Webhook
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.notify import Outbox, deliver, delivering

SECRET = "a secret of thirty-two characters"


@dataclass
class Desk:
    """A world, one receiver, and a clock that is moved by hand."""

    world: World
    settings: Settings
    outbox: Outbox = field(default_factory=Outbox)
    now: float = 100.0

    def tell(self, kind: str = "alert.raised") -> int:
        return self.world.state.append(Event(kind, datetime.now(UTC), "loop", "churn", 2, "look at this")).sequence

    def deliver(self) -> int:
        return deliver(self.world, self.settings, post, self.outbox, now=lambda: self.now)

    def failed(self) -> list[Event]:
        return [row.event for row in self.world.state.ledger() if row.event.kind == "notify.failed"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def desk(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("ECLUSE_NOTIFY_SECRET", SECRET)
    hook = Webhook(receiver.url, kinds=("alert.raised", "incident.opened"), private=True, attempts=3)
    made = Desk(world_in(tmp_path), Settings(project="water", notify={"pager": hook}))
    made.tell()  # what was before anybody asked is not told
    made.deliver()
    return made


def numbers(receiver: Receiver) -> list[int]:
    return [msgspec.json.decode(body)["number"] for _, body in receiver.got]


def test_events_of_the_chosen_kinds_are_told_once_and_in_order(desk: Desk, receiver: Receiver) -> None:
    wanted = [desk.tell(), desk.tell("incident.opened")]
    desk.tell("clock.set")
    wanted.append(desk.tell())
    assert desk.deliver() == 3
    assert desk.deliver() == 0
    assert numbers(receiver) == wanted
    headers, body = receiver.got[0]
    assert headers["ecluse-signature"] == sign(body, headers["ecluse-timestamp"], SECRET)
    told = msgspec.json.decode(body)
    assert told["project"] == "water"  # as declared: folders in containers have one name
    assert (told["kind"], told["model"], told["version"], told["reason"]) == (
        "alert.raised",
        "churn",
        2,
        "look at this",
    )


def test_a_receiver_that_fails_is_tried_again_later_under_the_same_name(desk: Desk, receiver: Receiver) -> None:
    receiver.answers = [500, 503, 200]
    number = desk.tell()
    assert desk.deliver() == 0
    assert desk.deliver() == 0  # not yet
    assert len(receiver.got) == 1
    for _ in range(2):
        desk.now += 60
        desk.deliver()
    assert numbers(receiver) == [number] * 3
    assert len({headers["ecluse-event"] for headers, _ in receiver.got}) == 1
    assert not desk.failed()


def test_who_cannot_be_told_is_given_up_and_noted(desk: Desk, receiver: Receiver) -> None:
    receiver.answers = [500, 500, 500, 200]
    first, second = desk.tell(), desk.tell()
    for _ in range(4):
        desk.now += 60
        desk.deliver()
    assert numbers(receiver) == [first] * 3 + [second]
    [noted] = desk.failed()
    assert noted.evidence == {"receiver": "pager", "event": first, "attempts": 3}


@pytest.mark.parametrize("secret", ["", SECRET[:31]])
def test_without_a_secret_worth_the_name_nothing_is_sent(
    secret: str, desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECLUSE_NOTIFY_SECRET", secret)
    desk.tell()
    for _ in range(3):
        desk.now += 60
        desk.deliver()
    assert not receiver.got
    assert "ECLUSE_NOTIFY_SECRET" in desk.failed()[0].reason


def test_one_receiver_holds_no_other_up(desk: Desk, receiver: Receiver) -> None:
    away = Webhook("http://127.0.0.1:1/", kinds=("alert.raised",), private=True)
    desk.settings = Settings(project="water", notify={"away": away, **desk.settings.notify})
    desk.deliver()
    number = desk.tell()
    assert desk.deliver() == 1
    assert numbers(receiver) == [number]


def test_a_bug_on_the_way_to_one_receiver_is_an_attempt_of_that_one_alone(desk: Desk, receiver: Receiver) -> None:
    def broken(url: str, body: bytes, **more: Any) -> int:
        if "away" in url:
            raise UnicodeEncodeError("ascii", "/away/a-secret-path", 1, 2, "ordinal not in range")
        return post(url, body, **more)

    away = Webhook("http://127.0.0.1:1/away", kinds=("alert.raised",), private=True, attempts=2)
    desk.settings = Settings(project="water", notify={"away": away, **desk.settings.notify})
    deliver(desk.world, desk.settings, broken, desk.outbox, now=lambda: desk.now)
    number = desk.tell()
    for _ in range(2):
        desk.now += 60
        deliver(desk.world, desk.settings, broken, desk.outbox, now=lambda: desk.now)
    assert numbers(receiver) == [number]
    [noted] = desk.failed()
    assert (noted.evidence["receiver"], noted.reason.endswith("UnicodeEncodeError")) == ("away", True)


def test_a_receiver_that_drips_holds_another_up_no_longer_than_its_timeout(desk: Desk, receiver: Receiver) -> None:
    with dripping() as url:
        slow = Webhook(url, kinds=("alert.raised",), private=True, timeout=timedelta(seconds=0.5), attempts=1)
        desk.settings = Settings(project="water", notify={"slow": slow, **desk.settings.notify})
        desk.deliver()
        number, began = desk.tell(), time.monotonic()
        assert desk.deliver() == 2  # the slow one is given up
        assert time.monotonic() - began < 3.0
    assert numbers(receiver) == [number]
    assert [each.evidence["receiver"] for each in desk.failed()] == ["slow"]


def test_a_receiver_that_is_slow_over_many_costs_another_nothing(desk: Desk, receiver: Receiver) -> None:
    """Each of its answers comes in time, and all of them would take three seconds."""
    with receiving() as slow:
        slow.delay = 0.5
        hook = Webhook(slow.url, kinds=("alert.raised",), private=True)
        desk.settings = Settings(project="water", notify={"a": hook, **desk.settings.notify})
        desk.deliver()
        wanted, began = [desk.tell() for _ in range(6)], time.monotonic()
        with delivering(desk.world, desk.settings, post, 0.05):
            while len(receiver.got) < 6 and time.monotonic() - began < 10:
                time.sleep(0.01)
            took, told = time.monotonic() - began, len(slow.got)
    assert numbers(receiver) == wanted
    assert told < 6, took
