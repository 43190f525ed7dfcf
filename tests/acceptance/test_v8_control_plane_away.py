"""V8: registry, tracking store, published document or bundles are away, locked or garbage: the worker serves what it served last, says what
it misses, starts from what it kept; what could not be promoted is promoted once afterwards.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.bad_place import Place
from tests.acceptance.plane_house import planted
from tests.serving.house import House, Worker

from ecluse.adapters.sealing import load_sealer
from ecluse.testing.load import Counts, Traffic

PATH = "/models/left/predict"
PEOPLE: list[Mapping[str, Any]] = [{"person": f"p{i:04}"} for i in range(20)]
RATE = 100.0
Away = Callable[[Path], AbstractContextManager[None]]


def house_of(place: Place) -> House:
    return House(place.home, load_sealer(place.home / "keys", create=False))


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Somebody writes to the state and does not finish."""
    holder = sqlite3.connect(home / "state.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.close()


def away(pattern: str, instead: bytes | None = None) -> Away:
    """Files and folders are moved away; in their places there is nothing, or the same garbage."""

    @contextmanager
    def fault(home: Path) -> Iterator[None]:
        kept = home.parent / f"away-{pattern.strip('*')}"
        kept.mkdir()
        for path in list(home.glob(pattern)):
            path.rename(kept / path.name)
            if instead is not None:
                path.write_bytes(instead)
        try:
            yield
        finally:
            for path in list(kept.iterdir()):
                (home / path.name).unlink(missing_ok=True)
                path.rename(home / path.name)
            kept.rmdir()

    return fault


FAULTS: dict[str, tuple[Away, bool]] = {  # and whether it is the worker's to notice
    "the state is locked": (locked, False),
    "the state is gone": (away("state.db*"), False),
    "the state is garbage": (away("state.db", b"\x00garbage" * 999), False),
    "the tracking store is gone": (away("mlflow*"), False),
    "the bundles are gone": (away("bundles"), False),
    "the bundles are garbage": (away("bundles", b"garbage"), False),
    "the document is gone": (away("published.json"), True),
    "the document is garbage": (away("published.json", b"<html>502 Bad Gateway</html>"), True),
}


@dataclass
class Seen:
    """What callers got, and what /health said of the document while each fault lasted."""

    counts: Counts
    said: dict[str, Any] = field(default_factory=dict)


def right(truth: Mapping[str, float]) -> Callable[[Mapping[str, Any], Mapping[str, Any]], None]:
    def check(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        assert (answer["version"], answer["proba"]) == (1, truth[body["person"]])

    return check


def answers(worker: Worker) -> dict[str, float]:
    return {body["person"]: worker.call("POST", PATH, body)[2]["proba"] for body in PEOPLE}


def outage(place: Place, seconds: float, defect: str = "none") -> Seen:
    """Callers ask while one fault after another comes, lasts and goes."""
    with planted(house_of(place), defect) as worker:
        truth = answers(worker)
        assert len(set(truth.values())) > 5
        traffic = Traffic(worker.url, PEOPLE, connections=4, path=PATH, rate=RATE, check=right(truth))
        with traffic:
            seen = Seen(traffic.counts)
            for name, (fault, told) in FAULTS.items():
                with fault(place.home):
                    time.sleep(seconds)
                    if told and defect == "none":
                        worker.wait(f"it says: {name}", lambda health: health["status"] == "degraded")
                        assert "ecluse_document_refused 1.0" in worker.call("GET", "/metrics")[2]
                    seen.said[name] = worker.health()["document"]["refused"] or ""
                    assert worker.call("GET", "/ready")[0] == 200 or defect != "none"
                if defect == "none":
                    worker.wait(f"all is well after {name}", lambda health: health["status"] == "ok")
        assert worker.stop() == 0
    return seen


@pytest.fixture
def served(place: Place) -> Place:
    """The released project with its features materialized."""
    assert place.quick("materialize").code == 0
    return place


def hold(seen: Seen) -> None:
    print(f"V8: {len(FAULTS)} faults, {seen.counts.sent} requests, {seen.counts.failed} failed; {seen.said}")
    assert seen.counts.failed == 0, seen.counts.codes
    for name, (_, told) in FAULTS.items():
        assert bool(seen.said[name]) == told, (name, seen.said[name])


def test_it_serves_what_it_served_last(served: Place) -> None:
    hold(outage(served, 0.4))


@pytest.mark.nightly
def test_it_serves_what_it_served_last_for_a_minute(served: Place) -> None:
    seen = outage(served, 7.5)
    hold(seen)
    assert seen.counts.sent >= 5_000


def test_a_worker_that_asks_the_store_each_time_is_found_out(served: Place) -> None:
    """The planted defect: versions are loaded when they are asked for."""
    seen = outage(served, 0.3, defect="asking")
    assert seen.counts.failed > 0, seen.counts.codes


def test_it_starts_from_what_it_kept(served: Place) -> None:
    house = house_of(served)
    with planted(house) as worker:
        truth = answers(worker)
    with contextlib.ExitStack() as faults:
        for pattern in ("state.db*", "published.json", "mlflow*"):
            faults.enter_context(away(pattern)(served.home))
        with planted(house) as worker:
            assert answers(worker) == truth
            health = worker.health()
            assert (health["status"], health["document"]["following"]) == ("degraded", False)


def test_without_bundles_it_does_not_begin_to_serve_and_begins_when_they_are_back(served: Place) -> None:
    house = house_of(served)
    with planted(house) as worker:
        truth = answers(worker)
    kept = served.home.parent / "kept"
    (served.home / "bundles").rename(kept)
    with planted(house, wait=False) as worker:
        worker.wait("it says why", lambda health: health["status"] == "version_not_loaded")
        assert "not here" in worker.health()["models"]["left"]["not_loaded"]["1"]
        assert worker.call("GET", "/ready")[0] == 503
        assert worker.call("POST", PATH, PEOPLE[0])[2]["code"] == "version_not_loaded"
        shutil.rmtree(served.home / "bundles", ignore_errors=True)
        kept.rename(served.home / "bundles")
        worker.wait("it serves", lambda health: health["status"] == "ok")
        assert answers(worker) == truth


def test_a_promotion_meanwhile_is_refused_and_afterwards_made_once(served: Place) -> None:
    house, promote = house_of(served), ("promote", "2", "--model", "left", "--why", "x")
    facts = served.facts()
    with planted(house) as worker:
        with locked(served.home):
            said = served.run(*promote)
            assert said.code == 6
            said.says("locked")
            assert worker.health()["models"]["left"]["serving"] == 1
        assert served.facts() == facts, "nothing of it is left"
        assert served.run(*promote).code == 0
        worker.wait("version 2 serves", lambda health: health["models"]["left"]["serving"] == 2)
        served.run(*promote)
    assert served.facts()[len(facts) :].count("version.promoted") == 1
