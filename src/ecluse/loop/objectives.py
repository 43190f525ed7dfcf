"""Objectives: when an error budget burns too fast, the loop asks for a retraining. What the workers count is read beside the turns.

It only asks (``trigger.raised``): debounce, cool-down and budgets of ``guard.py`` say what comes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ecluse.core.event import LedgerRow
from ecluse.core.loop_settings import Slo
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.asking import ask
from ecluse.loop.each import for_each
from ecluse.loop.pause import paused
from ecluse.loop.publish import known_models
from ecluse.loop.release_guard import samples_of
from ecluse.loop.story import story_so_far
from ecluse.loop.triggers import Due
from ecluse.monitoring.burning import Tally, burning, noted
from ecluse.monitoring.exposition import Series, answers_of, grown
from ecluse.monitoring.released import EXCUSED
from ecluse.monitoring.slo import measure

Place = tuple[str, int, str]
"""A model, its champion, an objective."""


@dataclass
class Burns:
    """What one look leaves to the next: the counters then, and the tallies of each objective. A new process begins to count anew."""

    last: Mapping[Series, float] | None = None
    tallies: dict[Place, list[Tally]] = field(default_factory=dict)


def watch_objectives(
    world: World,
    settings: Settings,
    burns: Burns,
    read_metrics: Callable[[], str],
    clock: Callable[[], float] = time.monotonic,
) -> list[LedgerRow]:
    """Look at the workers' counters once, and ask for a retraining of each champion that burns a budget of its ``triggers.objectives``.

    Asked once a day for each objective of a version: the same burning is one cause. A paused loop asks nothing. Where nobody answers
    ``read_metrics`` nothing is counted; after a restart of the workers counting goes on.
    """
    samples = samples_of(read_metrics)
    if samples is None or paused(world) is not None:
        return []
    more = {} if burns.last is None else grown(burns.last, samples)
    burns.last, before, burns.tallies = samples, burns.tallies, {}

    def watched(model: str) -> list[LedgerRow]:
        own, champion, rows = settings.for_model(model), world.state.rollout(model).champion, list[LedgerRow]()
        if champion is None or "slo" not in own.triggers.on:
            return []
        for name, target, total, bad in _counted(own, model, champion, more):
            place = model, champion, name
            known = before.get(place) or [Tally(clock())]
            now = Tally(clock(), known[-1].total + total, known[-1].bad + bad)
            burns.tallies[place] = noted(known, now)
            found = burning(burns.tallies[place], target, own.rollback.samples)
            if found is not None:
                rows += _ask(world, place, f"{name}: {found.why}")
        return rows

    return for_each(known_models(world), watched)


def _counted(
    own: Settings, model: str, champion: int, more: Mapping[Series, float]
) -> Iterator[tuple[str, float, int, int]]:
    """Each objective that may ask: its name, the share that must be good, answers, and those outside it. Availability is the champion's
    own, without what another version would have failed at as well; durations are counted for all models together.
    """
    slo: Slo = own.slo
    for name in own.triggers.objectives:
        if name == "availability":
            answers = answers_of(more, model, champion, EXCUSED)
            yield name, slo.availability, answers.total, answers.failures
        else:
            budget = next(each for each in measure(slo, own.serving.max_in_flight, more) if each.name == name)
            yield name, budget.target, budget.total, budget.bad


def _ask(world: World, place: Place, why: str) -> list[LedgerRow]:
    model, champion, name = place
    key = f"slo/{name}/{champion}/{world.clock.now().date()}"
    if key in story_so_far(world).of(model).keys:
        return []
    return [ask(world, model, Due("slo", key, why, version=champion), actor="loop")]
