"""Replay: a stretch of a project's past told again to a simulated loop under the settings of today. Reads the state, writes nothing of it.

What happened outside the loop (data that came, windows that were judged, drift, what people and other systems asked for) happens again at its
time; what the loop did then is left out, and done anew by the rules of now. A drift is held to be about whichever version is champion then.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ecluse.core import rollout as rules
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.event import Event, LedgerRow
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Settings
from ecluse.core.version import Run
from ecluse.loop.publish import known_models
from ecluse.testing.memory_state import MemoryState
from ecluse.testing.simulation import Faults, Simulation

OUTSIDE = ("data.ingested", "monitor.judged", "drift.detected", "trigger.raised")
TOLD = ("loop.decided", "trigger.suppressed", "trigger.raised", "run.failed", "version.promoted", "alert.raised")
FAULTS: Mapping[str, Faults] = {
    "failing": Faults(failing=0.3),
    "refused": Faults(refused=0.3),
    "crash": Faults(crash=0.05),
    "sleeping": Faults(sleeping=0.3, rival=True),
    "clock": Faults(clock=0.01),
    "storm": Faults(),
}
"""What ``--faults`` may name."""
MOST_TICKS = 20_000
STORM, STORMER = 200, "storm"


@dataclass(frozen=True)
class Replayed:
    """``rows``: what would have been asked, decided, held back, released; ``counts``: retrainings and releases, and what was held back by why;
    ``assumed``: models that had no version yet and were given one to begin with.
    """

    rows: Sequence[LedgerRow]
    counts: Mapping[str, int]
    assumed: Sequence[str]


def replay(
    world: World, settings: Settings, since: datetime, until: datetime, *, faults: Sequence[str] = (), seed: int = 0
) -> Replayed:
    """Simulate the loop from ``since`` to ``until``. Raises InvalidInput for an unknown fault, or a span that is none or too long."""
    if unknown := [name for name in faults if name not in FAULTS]:
        raise InvalidInput(f"no fault is called {unknown[0]!r}", cure="choose among " + ", ".join(FAULTS))
    tick = timedelta(hours=1)
    if not timedelta(0) < until - since <= MOST_TICKS * tick:
        raise InvalidInput(f"from {since} to {until}", where="--from, --to", cure="give a span of up to two years")
    seconds = [run.seconds for run in world.state.runs()] or [600.0]
    simulation = Simulation(settings, since, seed, _joined(faults), statistics.median(seconds), tick)
    rows = list(world.state.ledger())
    assumed = _begin(simulation, world, [row.event for row in rows if row.event.time < since])
    for event in _happenings(rows, since, until):
        simulation.tell(event)
    if "storm" in faults:
        _storms(simulation, known_models(simulation.world), until)
    told = [row for row in simulation.run(until) if row.event.kind in TOLD and row.event.actor != STORMER]
    return Replayed(told, _counted(told), assumed)


def _joined(names: Sequence[str]) -> Faults:
    chosen = [FAULTS[name] for name in names]
    parts = ("failing", "refused", "crash", "sleeping", "clock")
    return Faults(
        **{part: max((getattr(f, part) for f in chosen), default=0.0) for part in parts}, rival="sleeping" in names
    )


def _happenings(rows: Sequence[LedgerRow], since: datetime, until: datetime) -> Iterator[Event]:
    for row in rows:
        event = row.event
        if event.kind in OUTSIDE and since <= event.time < until and not event.actor.startswith("loop"):
            yield event


def _begin(simulation: Simulation, world: World, past: Sequence[Event]) -> list[str]:
    """The state as it was: the facts before, with what they did to versions and rollouts; models without a champion get one."""
    state = simulation.state
    if (declared := world.state.declaration()) is not None:
        state.save_declaration("", declared)
    for event in past:
        _again(state, world, event)
    assumed = [name for name in known_models(world) if state.rollout(name).champion is None]
    for name in assumed:
        simulation.first_version(name)
    state.set_meta("loop.handled", str(sum(1 for _ in state.ledger())))
    return assumed


def _again(state: MemoryState, world: World, event: Event) -> None:
    model, version = event.model, event.version
    if event.kind == "run.finished" and (run := _run(world, str(event.evidence.get("run", "")))) is not None:
        state.add_run(run, event)
    elif event.kind == "version.registered" and (run := _run(world, str(event.evidence.get("run", "")))) is not None:
        state.register(run, event.time, event)
    elif event.kind == "version.promoted" and version is not None:
        before = state.rollout(model)
        kept = tuple(n for n in (*before.previous, before.champion) if n not in (None, version))
        state.move(before, Rollout(model, before.revision + 1, version, kept), event)
    elif event.kind == "version.rolled_back" and version is not None:
        before = state.rollout(model)
        state.move(before, rules.roll_back(before, version), event)
    else:
        state.append(event)


def _run(world: World, name: str) -> Run | None:
    try:
        return world.state.run(name)
    except (NotFound, InvalidInput):
        return None


def _storms(simulation: Simulation, models: Sequence[str], until: datetime) -> None:
    """Once a week five detectors cry for ten minutes."""
    random, at = simulation.random, simulation.began + timedelta(days=1)
    while at < until:
        for number in range(STORM):
            moment = at + timedelta(seconds=random.uniform(0, 600))
            model, which = random.choice(models), random.choice(("drift", "slo", "outside", "new_data", "schedule"))
            cause = {"trigger": which, "key": f"storm/{at.isoformat()}/{which}/{number}", "findings": []}
            kind = "drift.detected" if which == "drift" else "trigger.raised"
            simulation.tell(Event(kind, moment, STORMER, model, 1 if which == "drift" else None, "a storm", cause))
        at += timedelta(days=7)


def _counted(rows: Sequence[LedgerRow]) -> dict[str, int]:
    counts: Counter[str] = Counter(retrainings=0, releases=0)
    for row in rows:
        event = row.event
        if event.kind == "trigger.suppressed":
            counts[f"held back: {event.evidence['why']}"] += 1
        elif event.kind == "version.promoted":
            counts["releases"] += 1
        elif event.kind == "alert.raised":
            counts["alerts"] += 1
        elif event.kind == "loop.decided":
            counts["retrainings"] += event.evidence["command"] == "Retrain"
    return dict(counts)
