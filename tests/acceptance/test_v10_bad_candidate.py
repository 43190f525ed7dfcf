"""V10: a release that does harm is taken back by itself within the declared time, the loss is bounded, and it never goes back and forth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.acceptance.bad_candidates import BODIES, CANDIDATES, Shop, failing, good, open_shop
from tests.serving.house import Worker, running

from ecluse.adapters.server_client import read_metrics
from ecluse.core.loop_settings import Rollback
from ecluse.core.settings import Settings
from ecluse.loop.beside import beside
from ecluse.loop.release_guard import Sight, guard_releases
from ecluse.testing.load import Counts, Traffic

RATE = 100.0
"""Requests a second: at most 500 may meet a bad release."""
MOST = 500
WITHIN = timedelta(seconds=60)
SETTINGS = Settings(project="shop", rollback=Rollback(on=("errors", "output", "latency"), within=WITHIN, samples=40))


@contextmanager
def guarded(shop: Shop, every: float = 0.2) -> Iterator[None]:
    """The guard as the loop that stays up has it."""
    sights: dict[str, Sight] = {}
    home = shop.house.home

    def look() -> None:
        guard_releases(shop.world, shop.settings, sights, lambda: read_metrics(home, "http://127.0.0.1:1"))

    look()
    with beside("guard", look, every):
        yield


def until(what: str, holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def shop_with_traffic(folder: Path, settings: Settings) -> Iterator[tuple[Shop, Worker, Traffic]]:
    shop = open_shop(folder, settings)
    with running(shop.house) as worker, Traffic(worker.url, BODIES, connections=4, rate=RATE) as traffic:
        assert traffic.wait_for(100)
        yield shop, worker, traffic


def serving(worker: Worker, number: int) -> Callable[[], bool]:
    return lambda: worker.health()["models"]["churn"]["serving"] == number


def counted(counts: Counts, number: int) -> int:
    return counts.versions.get(number, 0) + counts.failed


KINDS = [pytest.param(kind, marks=[pytest.mark.nightly] if kind == "latency" else []) for kind in sorted(CANDIDATES)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_release_is_taken_back_by_itself(kind: str, tmp_path: Path) -> None:
    with shop_with_traffic(tmp_path, SETTINGS) as (shop, worker, traffic), guarded(shop):
        assert traffic.counts.failed == 0
        begun = time.monotonic()
        assert shop.release(CANDIDATES[kind](2)) == 2
        assert until("it is taken back", lambda: shop.world.state.rollout("churn").champion == 1, 60)
        seconds = time.monotonic() - begun
        assert until("workers follow", serving(worker, 1), 10)
        served = traffic.counts.sent
        failed = traffic.counts.failed
        assert traffic.wait_for(served + 200)
        counts = traffic.stop()
    [incident] = shop.told("incident.opened")
    met = counted(counts, 2)
    print(f"V10 {kind}: taken back after {seconds:.1f} s, {met} requests met it, {counts.failed} of them failed")
    assert seconds <= WITHIN.total_seconds()
    assert met <= MOST
    assert counts.failed <= failed + 4  # what was on its way; afterwards none
    if kind != "errors":
        assert counts.failed == 0
    assert next(each["check"] for each in incident["findings"]) == kind  # type: ignore[attr-defined]
    assert len(shop.told("version.rolled_back")) == 1
    assert incident["to"] == 1


def test_a_good_release_stays(tmp_path: Path) -> None:
    """The control arm: the same answers again, released twice under the same watch."""
    settings = replace(SETTINGS, rollback=replace(SETTINGS.rollback, on=("errors", "output")))
    with shop_with_traffic(tmp_path, settings) as (shop, worker, traffic), guarded(shop):
        for number in (2, 3):
            assert shop.release(good(number)) == number
            assert until("it serves", serving(worker, number), 20)
            assert traffic.wait_for(traffic.counts.sent + 150)
        assert traffic.stop().failed == 0
    assert not shop.told("incident.opened")
    assert not shop.told("alert.raised")


@pytest.mark.nightly
def test_a_second_bad_release_within_the_cool_down_calls_a_person(tmp_path: Path) -> None:
    with shop_with_traffic(tmp_path, SETTINGS) as (shop, _, _traffic), guarded(shop):
        shop.release(failing(2))
        assert until("taken back", lambda: shop.world.state.rollout("churn").champion == 1, 60)
        assert until("the guard has seen it", lambda: bool(shop.told("version.rolled_back")), 5)
        shop.release(failing(30))
        assert until("a person is called", lambda: bool(shop.told("alert.raised")), 60)
        assert shop.world.state.rollout("churn").champion == 3
    assert len(shop.told("version.rolled_back")) == 1


def test_without_a_guard_the_harm_goes_on(tmp_path: Path) -> None:
    """The planted defect: nobody looks, and the harm goes on."""
    with shop_with_traffic(tmp_path, SETTINGS) as (shop, worker, traffic):
        shop.release(failing(2))
        assert until("it serves", serving(worker, 2), 20)
        assert not until("it is taken back", lambda: shop.world.state.rollout("churn").champion == 1, 3)
        assert traffic.stop().failed > 0
