"""R1: four processes promote at once. At most one Production at every instant, one winner, one row of the ledger per round."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.acceptance.promoters import promoter
from tests.loop.worlds import MODEL, candidate, world_in

from ecluse.core.event import broken_at
from ecluse.core.rollout import Rollout
from ecluse.core.version import Stage

PROMOTERS = 4


@dataclass
class Seen:
    """What a round and the poller saw."""

    answers: list[list[str]] = field(default_factory=list)
    productions: list[int] = field(default_factory=list)
    champions: list[bool] = field(default_factory=list)
    promotions: int = 0
    chain: int | None = None

    @property
    def faults(self) -> list[str]:
        """Everything that must not be; empty when the promise held."""
        one_winner = ["Conflict"] * (PROMOTERS - 1) + ["won"]
        found = [f"round {number}: {each}" for number, each in enumerate(self.answers) if sorted(each) != one_winner]
        first = next((i for i, count in enumerate(self.productions) if count), len(self.productions))
        found += [f"{count} in Production" for count in self.productions[first:] if count != 1]
        found += ["stage and rollout differ"] * self.champions.count(False)
        found += (
            [] if self.promotions == len(self.answers) else [f"{self.promotions} facts of {len(self.answers)} rounds"]
        )
        return found + ([] if self.chain is None else [f"the ledger breaks at {self.chain}"])


def poll(path: Path, stop: threading.Event, counts: list[int]) -> None:
    connection = sqlite3.connect(path, timeout=30)
    while not stop.wait(0.005):
        counts.append(connection.execute("SELECT count(*) FROM version WHERE stage = 'Production'").fetchone()[0])
    connection.close()


def race(home: Path, rounds: int, *, careless: bool = False) -> Seen:
    world, seen, stop = world_in(home), Seen(), threading.Event()
    assert world.state.generation() == 0
    context = multiprocessing.get_context("spawn")
    line, answers = context.Barrier(PROMOTERS), context.Queue()
    inboxes = [context.Queue() for _ in range(PROMOTERS)]
    workers = [
        context.Process(target=promoter, args=(home, place, careless, line, inboxes[place], answers), daemon=True)
        for place in range(PROMOTERS)
    ]
    poller = threading.Thread(target=poll, args=(home / "state.db", stop, seen.productions))
    poller.start()
    for worker in workers:
        worker.start()
    try:
        for number in range(rounds):
            numbers = [candidate(world, f"{number}-{place}").number for place in range(PROMOTERS)]
            for inbox in inboxes:
                inbox.put(numbers)
            seen.answers.append([answers.get(timeout=60) for _ in range(PROMOTERS)])
            champion = world.state.rollout(MODEL).champion
            in_production = [v.number for v in world.state.versions(MODEL) if v.stage is Stage.PRODUCTION]
            seen.champions.append(in_production == [champion])
    finally:
        for inbox in inboxes:
            inbox.put(None)
        for worker in workers:
            worker.join(60)
        stop.set()
        poller.join()
    seen.promotions = sum(row.event.kind == "version.promoted" for row in world.state.ledger())
    seen.chain = broken_at(world.state.ledger())
    return seen


def hold_race(home: Path, rounds: int) -> None:
    seen = race(home, rounds)
    assert seen.faults == []
    assert len(seen.productions) > rounds
    rollout = world_in(home).state.rollout(MODEL)
    assert isinstance(rollout, Rollout)
    assert (rollout.revision, len(rollout.previous)) == (rounds, rounds - 1)


def test_one_production_and_one_winner(tmp_path: Path) -> None:
    hold_race(tmp_path, 10)


@pytest.mark.nightly
def test_one_production_and_one_winner_for_long(tmp_path: Path) -> None:
    hold_race(tmp_path, 50)


def test_the_planted_defect_is_seen(tmp_path: Path) -> None:
    """A move that neither compares nor is held by the index turns every check red."""
    seen = race(tmp_path, 3, careless=True)
    assert any("round" in fault and fault.count("won") > 1 for fault in seen.faults)
    assert any("in Production" in fault for fault in seen.faults)
    assert any("facts" in fault for fault in seen.faults)
