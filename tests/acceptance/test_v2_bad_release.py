"""V2: releases that must not be served: the version before answers on, the reason is said, the worker lives and holds no more than before."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.acceptance.bad_bundles import BAD, hungry, with_model
from tests.acceptance.plane_house import BODIES, Held, check, planted, release
from tests.serving.house import House, Worker, ready_house

from ecluse.testing.load import Counts, Traffic

QUICK = tuple(name for name, bad in BAD.items() if not bad.slow)
MORE_BYTES = 64 * 2**20


@dataclass
class Seen:
    """What callers got, what was said of each bad release, what the worker held before and at most."""

    counts: Counts
    before: Held
    after: Held
    said: dict[str, str] = field(default_factory=dict)


def refused(worker: Worker, house: House, number: int, seconds: float) -> str:
    """What is said of a release, once it is refused, in /health and /models/info alike."""
    worker.wait(
        f"version {number} is refused",
        lambda h: h["generation"] == house.generation and str(number) in h["models"]["churn"]["not_loaded"],
        seconds,
    )
    health, info = worker.health(), worker.call("GET", "/models/info")[2]
    assert health["status"] == "degraded"
    assert health["last_load_failure"]["version"] == number
    assert worker.call("GET", "/ready")[0] == 200
    for told in (health, info):
        assert told["models"]["churn"]["serving"] == 1
    return str(info["models"]["churn"]["not_loaded"][str(number)])


def spoil(folder: Path, kinds: Sequence[str], requests: int, *, defect: str = "none", seconds: float = 60.0) -> Seen:
    """Callers ask version 1 while one bad release after another is published; then an older document; then a good one."""
    house = ready_house(folder)
    good, said = house.served["churn"][1], {}
    with planted(house, defect) as worker, Traffic(worker.url, BODIES, connections=4, check=check) as traffic:
        assert traffic.wait_for(200)
        before = Held.by(worker)
        for number, kind in enumerate(kinds, start=11):
            house.served["churn"] = {1: good}
            BAD[kind].plant(house, number)
            house.publish(number)
            said[kind] = refused(worker, house, number, seconds)
        house.served["churn"] = {1: good}
        old = house.publish(1)
        house.publish(1)
        worker.wait("the newest is followed", lambda health: health["generation"] == house.generation)
        house.put(old)
        worker.wait("the older one is refused", lambda health: "older" in (health["document"]["refused"] or ""))
        assert traffic.wait_for(requests)
        after, counts = Held.by(worker), traffic.stop()
        assert set(counts.versions) == {1}
        release(house, 2)
        worker.wait("a good one serves", lambda health: health["models"]["churn"]["serving"] == 2)
        assert worker.stop() == 0
    return Seen(counts, before, after, said)


def hold(seen: Seen, kinds: Sequence[str], requests: int) -> None:
    more = (seen.after.highest - seen.before.resident) / 2**20
    print(
        f"V2: {len(kinds)} bad releases, {seen.counts.sent} requests, {seen.counts.failed} failed, {more:+.1f} MiB at most"
    )
    assert seen.counts.failed == 0, seen.counts.codes
    assert seen.counts.sent >= requests
    for kind in kinds:
        assert any(reason in seen.said[kind] for reason in BAD[kind].reasons), (kind, seen.said[kind])
    assert seen.after.highest <= seen.before.resident + MORE_BYTES


def test_bad_releases_leave_the_one_before_serving(tmp_path: Path) -> None:
    hold(spoil(tmp_path, QUICK, 1_000), QUICK, 1_000)


@pytest.mark.nightly
def test_bad_releases_that_take_their_time_leave_the_one_before_serving(tmp_path: Path) -> None:
    hold(spoil(tmp_path, tuple(BAD), 5_000), tuple(BAD), 5_000)


def test_a_worker_that_unloads_first_is_found_out(tmp_path: Path) -> None:
    """The planted defect: the version before is gone when the next turns out to be bad."""
    house = ready_house(tmp_path)
    with planted(house, "unload") as worker, Traffic(worker.url, BODIES, connections=4, check=check) as traffic:
        assert traffic.wait_for(200)
        BAD["corrupt"].plant(house, 11)
        house.publish(11)
        worker.wait("it was looked at", lambda health: health["generation"] == house.generation)
        assert traffic.wait_for(traffic.counts.sent + 200)
    assert traffic.counts.failed > 0, traffic.counts.codes


def growth(folder: Path, defect: str) -> int:
    """By how many bytes a worker grew at most over a release that takes a gigabyte to answer."""
    house = ready_house(folder)
    with planted(house, defect) as worker:
        assert worker.predict()[0] == 200
        before = Held.by(worker).resident
        house.add(11, with_model(11, hungry(1 << 27)))
        house.publish(11)
        refused(worker, house, 11, 60.0)
        return Held.by(worker).highest - before


def test_a_release_that_takes_a_gigabyte_takes_it_elsewhere(tmp_path: Path) -> None:
    assert growth(tmp_path, "none") <= MORE_BYTES


def test_a_worker_that_tries_it_itself_is_found_out(tmp_path: Path) -> None:
    """The planted defect: the worker parses what nobody has tried."""
    assert growth(tmp_path, "untried") > MORE_BYTES


@contextmanager
def children_of(worker: Worker) -> Iterator[list[int]]:
    """How many processes the worker has started and not ended, looked at again and again."""
    stop, seen = threading.Event(), [0]
    tasks = Path(f"/proc/{worker.process.pid}/task")

    def look() -> None:
        while not stop.wait(0.01):
            seen.append(sum(len((task / "children").read_text().split()) for task in tasks.iterdir()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.mark.nightly
def test_releases_at_once_are_loaded_one_after_the_other(tmp_path: Path) -> None:
    """While one does not come to an end, two more are published: one load at a time, and the last one serves."""
    house = ready_house(tmp_path)
    good = house.served["churn"][1]
    with planted(house) as worker, Traffic(worker.url, BODIES, connections=4, check=check) as traffic:
        assert traffic.wait_for(200)
        with children_of(worker) as children:
            house.served["churn"] = {1: good}
            BAD["no end"].plant(house, 11)
            house.publish(11)
            assert traffic.wait_for(traffic.counts.sent + 500)
            release(house, 2)
            release(house, 3)
            worker.wait("the last one serves", lambda health: health["models"]["churn"]["serving"] == 3, 60.0)
        assert traffic.stop().failed == 0, traffic.counts.codes
        assert max(children) <= 1
        assert worker.stop() == 0
