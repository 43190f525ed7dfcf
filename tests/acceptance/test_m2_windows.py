"""M2: watchers killed, and several at once over the same windows: each window's drift is told once, and looking again gives the same numbers."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tests.acceptance.watchers import watcher
from tests.loop.test_monitor import Served, served

from ecluse.core.codec import canonical
from ecluse.core.event import broken_at

__all__ = ["served"]
WATCHERS = 2


def faults(house: Served, windows: Sequence[int]) -> list[str]:
    """Everything that must not be."""
    rows = list(house.world.state.ledger())
    drifts = Counter(row.event.evidence["key"] for row in rows if row.event.kind == "drift.detected")
    found = [f"a window told {count} times" for count in drifts.values() if count > 1]
    found += [] if len(drifts) == len(set(windows)) else [f"{len(drifts)} windows told of {len(set(windows))}"]
    numbers: dict[str, set[bytes]] = {}
    for row in rows:
        if row.event.kind in ("monitor.judged", "drift.detected"):
            said = {name: row.event.evidence[name] for name in ("window", "outcomes", "series")}
            numbers.setdefault(row.event.evidence["key"], set()).add(canonical(said))
    found += [f"{len(each)} readings of one window" for each in numbers.values() if len(each) > 1]
    broken = broken_at(house.world.state.ledger())
    return found + ([] if broken is None else [f"the ledger breaks at {broken}"])


def race(house: Served, windows: Sequence[int], *, careless: bool = False) -> list[str]:
    """Every watcher judges every window, all at once."""
    context = multiprocessing.get_context("spawn")
    line, answers = context.Barrier(WATCHERS), context.Queue()
    inboxes = [context.Queue() for _ in range(WATCHERS)]
    workers = [
        context.Process(target=watcher, args=(house.home, line, careless, inbox, answers), daemon=True)
        for inbox in inboxes
    ]
    for worker in workers:
        worker.start()
    told: list[Any] = []
    for window in windows:
        for inbox in inboxes:
            inbox.put(window)
        each = [answers.get(timeout=60) for _ in workers]
        told += [] if len(set(each)) == 1 else [f"answers {each}"]
    for inbox in inboxes:
        inbox.put(None)
    for worker in workers:
        worker.join(60)
    return told + faults(house, windows)


def kill(house: Served, windows: Sequence[int], kills: int) -> list[str]:
    """Watchers killed at any moment of their work; then one that looks at everything."""
    context, rng = multiprocessing.get_context("spawn"), random.Random(kills)
    for _ in range(kills):
        inbox, answers = context.Queue(), context.Queue()
        for window in windows:
            inbox.put(window)
        worker = context.Process(target=watcher, args=(house.home, None, False, inbox, answers), daemon=True)
        worker.start()
        answers.get(timeout=60)  # it works
        time.sleep(rng.uniform(0, 0.15))
        worker.kill()
        worker.join()
    for window in windows:
        house.monitor(last=window)
    return faults(house, windows)


def test_several_watchers_tell_a_window_once(served: Served) -> None:
    served.traffic(1_500, shift=1.0)
    assert race(served, [300, 600, 900, 300]) == []


def test_killed_watchers_tell_a_window_once(served: Served) -> None:
    served.traffic(1_500, shift=1.0)
    assert kill(served, [300, 600, 900], 1) == []


@pytest.mark.nightly
def test_several_watchers_for_long(served: Served) -> None:
    served.traffic(4_000, shift=1.0)
    assert race(served, list(range(300, 4_000, 50))) == []


@pytest.mark.nightly
def test_thirty_killed_watchers(served: Served) -> None:
    served.traffic(3_000, shift=1.0)
    assert kill(served, list(range(300, 3_000, 100)), 30) == []


def test_looking_and_telling_apart_is_found_out(served: Served) -> None:
    served.traffic(1_500, shift=1.0)
    assert any("a window told" in fault for fault in race(served, [300, 600], careless=True))
