"""Release guard: looks at the champions (the workers' counters, the journal, the ledger), decides by ``incident.py``, and does what follows.

Whatever ends it halfway, the next look goes on: an incident that was opened without a rollback is a rollback still to be done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ecluse.core.codec import digest, from_plain
from ecluse.core.errors import EcluseError
from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import Rollback
from ecluse.core.ports import World
from ecluse.core.recipe import Split
from ecluse.core.settings import Settings
from ecluse.loop.each import for_each
from ecluse.loop.incident import Call, Close, GoOn, Step, said_of, what_follows
from ecluse.loop.pause import paused
from ecluse.loop.publish import known_models, rollback_targets
from ecluse.loop.releases import Releases, numbers_of, tell_releases
from ecluse.loop.rollback import rollback
from ecluse.monitoring.exposition import Answers, Series, answers_of, grown, read_samples
from ecluse.monitoring.released import EXCUSED, Observed, judge_release
from ecluse.monitoring.window import Record, by_version, make_window
from ecluse.stats.reference import Reference

ACTOR = "loop, release guard"
REFERENCE = "reference.json"
LAST = 1_000
"""A look takes so many records, the newest of all models; of a version's own predictions, gathered from look to look, the newest so many count."""
FIRST = 20_000
"""Records taken when a release is first seen: of a model with a hundredth of the traffic, two hundred are among them."""
NEEDED = ("id", "time", "latency_us", "score", "decision", "degraded", "entity", "as_of")
"""What is kept of a prediction."""
MARK_SECONDS, MARKS = 15.0, 20
"""Five minutes of counters are remembered, one reading in fifteen seconds."""


@dataclass
class Sight:
    """What one look leaves to the next: the ledger read so far; the counters of the ``last`` look, as the release began (``base``), and of
    the last minutes (``marks``, by monotonic seconds); ids of earlier answers, latencies of the version before; the version's ``own``
    predictions since, by id, oldest first; what it was ``trained`` on. A new process begins empty.
    """

    known: Releases = field(default_factory=Releases)
    limits: Mapping[str, float] = field(default_factory=dict)
    moved: int = -1
    last: Mapping[Series, float] | None = None
    base: Mapping[Series, float] | None = None
    marks: list[tuple[float, Mapping[Series, float]]] = field(default_factory=list)
    earlier: frozenset[str] = frozenset()
    before: tuple[int, ...] = ()
    own: dict[str, Record] = field(default_factory=dict)
    trained: tuple[int, Reference | None, Split] | None = None


def guard_releases(
    world: World, settings: Settings, sights: dict[str, Sight], read_metrics: Callable[[], str] | None = None
) -> list[LedgerRow]:
    """Look at every model's champion once, and do what follows; the rows added. A paused loop does nothing.

    ``read_metrics`` gives the text of the workers' ``/metrics``; where it raises (no server answers) the counters are not judged. What one
    model raises (Corrupt: its bundle is damaged) is raised when all the others were looked at.
    """
    if paused(world) is not None:
        return []
    samples = samples_of(read_metrics)
    return for_each(
        known_models(world), lambda model: _guard(world, settings, model, sights.setdefault(model, Sight()), samples)
    )


def samples_of(read_metrics: Callable[[], str] | None) -> Mapping[Series, float] | None:
    """The workers' counters now; None when no server answers."""
    if read_metrics is None:
        return None
    try:
        return read_samples(read_metrics())
    except EcluseError:
        return None


def _guard(
    world: World, settings: Settings, model: str, sight: Sight, samples: Mapping[Series, float] | None
) -> list[LedgerRow]:
    own = settings.for_model(model)
    limits, now = own.rollback, world.clock.now()
    known = _read(world, model, sight, limits)
    if known.champion is None or known.moved_at is None:
        return []
    if now - known.moved_at >= limits.watch and known.incident is None and not known.against:
        sight.last, sight.own = samples or sight.last, {}
        return []  # nothing that is asked of an old release can have changed
    seen = _observe(world, model, sight, limits, samples)
    verdict = judge_release(seen, limits, own.slo)
    rollout = world.state.rollout(model)
    if rollout.champion != known.champion:
        return []  # it moved this very moment: the next look knows
    targets = rollback_targets(rollout, {each.number: each for each in world.state.versions(model)})
    step = what_follows(known, verdict, limits, targets, now)
    return [] if step is None else _do(world, settings, model, known, step, seen)


def _read(world: World, model: str, sight: Sight, limits: Rollback) -> Releases:
    if dict(sight.limits) != dict(limits.metrics):
        sight.known, sight.limits = Releases(), limits.metrics
    rows = world.state.ledger(model=model, after=sight.known.sequence)
    sight.known = tell_releases(sight.known, rows, limits.metrics)
    return sight.known


def _observe(
    world: World, model: str, sight: Sight, limits: Rollback, samples: Mapping[Series, float] | None
) -> Observed:
    known = sight.known
    assert known.champion is not None
    number, needed = known.champion, {"latency", "output", "slo"} & set(limits.on)
    begins = sight.moved != known.moved
    records = list(world.read_predictions(None, None, FIRST if begins else LAST)) if needed else []
    versions = by_version(records, model)
    if begins:
        _begin(sight, versions, samples)
    own = _gathered(sight, versions.get(number, ()))
    whole, recent = _counted(sight, model, number, samples)
    latencies = [int(each["latency_us"]) for each in own if each.get("latency_us")]
    seen = Observed(number, whole, recent, latencies, sight.before, told=known.against)
    return _with_outputs(world, model, sight, seen, own) if "output" in limits.on and own else seen


def _gathered(sight: Sight, records: Sequence[Record]) -> list[Record]:
    """The version's own predictions since its release, the newest of them: a model with little traffic shows a few to each look."""
    more = {str(each["id"]): each for each in records}
    new = [name for name in more if name not in sight.own and name not in sight.earlier]
    known = sight.own | {name: {key: more[name].get(key) for key in NEEDED} | {"inputs": {}} for name in new}
    sight.own = dict(list(known.items())[-LAST:])
    return list(sight.own.values())


def _begin(sight: Sight, versions: Mapping[int, Sequence[Record]], samples: Mapping[Series, float] | None) -> None:
    """A release is seen for the first time: note what was there before it. A version that never served before has nothing to leave out."""
    known = sight.known
    sight.moved = known.moved
    sight.base, sight.marks, sight.own = {} if known.first else sight.last, [], {}
    number = known.champion or 0
    sight.earlier = frozenset() if known.first else frozenset(str(each["id"]) for each in versions.get(number, ()))
    others = [each for other, records in versions.items() if other != number for each in records[-LAST:]]
    sight.before = tuple(int(each["latency_us"]) for each in others if each.get("latency_us"))


def _counted(sight: Sight, model: str, number: int, samples: Mapping[Series, float] | None) -> tuple[Answers, Answers]:
    """What the version answered since its release, and lately: a fault of the tenth hour must not drown in nine good ones."""
    if samples is None:
        return Answers(), Answers()
    sight.base = samples if sight.base is None else sight.base
    now = time.monotonic()
    marks = sight.marks or [(now, sight.base)]
    if now - marks[-1][0] >= MARK_SECONDS:
        marks = [*marks, (now, samples)]
    sight.marks, sight.last = marks[-MARKS:], samples
    whole, recent = (grown(before, samples) for before in (sight.base, sight.marks[0][1]))
    return answers_of(whole, model, number, EXCUSED), answers_of(recent, model, number, EXCUSED)


def _with_outputs(world: World, model: str, sight: Sight, seen: Observed, records: Sequence[Record]) -> Observed:
    if sight.trained is None or sight.trained[0] != seen.version:
        sight.trained = seen.version, *_trained(world, model, seen.version)
    _, reference, split = sight.trained
    if reference is None:
        return seen
    window = make_window(model, seen.version, {seen.version: records}, split)
    classes = any(each is not None for each in window.answers)
    values = window.answers if classes else window.scores
    fresh = [value for value, new in zip(values, window.fresh, strict=True) if new]
    return replace(seen, outputs=fresh, reference=reference.score)


def _trained(world: World, model: str, number: int) -> tuple[Reference | None, Split]:
    """What a version's outputs were at training, and what it was trained on: every byte of its bundle is checked, so once for a release."""
    bundle = world.bundles.get(world.state.version(model, number).bundle)
    if REFERENCE not in bundle.files:
        return None, bundle.manifest.split
    return from_plain(Reference, bundle.document(REFERENCE), where=REFERENCE), bundle.manifest.split


# --------------------------------------------------------------------------------------------------------------------- doing


def _do(world: World, settings: Settings, model: str, known: Releases, step: Step, seen: Observed) -> list[LedgerRow]:
    state, now, champion = world.state, world.clock.now(), known.champion
    assert champion is not None
    if isinstance(step, Call):
        event = Event("alert.raised", now, ACTOR, model, champion, step.why, {"incident": step.key})
        return [state.append(event)]
    if isinstance(step, GoOn):
        return _go_back(world, settings, model, champion, step.incident.to, f"incident {step.incident.number}")
    if isinstance(step, Close):
        assert known.incident is not None
        facts = {"incident": known.incident.number, "seconds": known.incident.seconds}
        return [state.append(Event("incident.closed", now, ACTOR, model, known.incident.version, step.why, facts))]
    told: dict[str, Any] = {
        "to": step.to,
        "release": known.moved,
        "findings": numbers_of(step.findings),
        "answers": seen.answers.total,
        "failures": dict(seen.answers.failed or {}),
        "journaled": len(seen.latencies),
        "within_seconds": settings.for_model(model).rollback.within.total_seconds(),
    }
    opened = state.append(Event("incident.opened", now, ACTOR, model, champion, said_of(step.findings), told))
    reason = f"incident {opened.sequence}: {said_of(step.findings)}"
    return [opened, *_go_back(world, settings, model, champion, step.to, reason)]


def _go_back(world: World, settings: Settings, model: str, leaving: int, to: int, reason: str) -> list[LedgerRow]:
    """The previous version serves again; where that cannot be done a person is called."""
    begun = max((row.sequence for row in world.state.ledger(model=model)), default=0)
    try:
        rollback(world, settings, model, to=to, leaving=leaving, reason=reason, actor=ACTOR)
    except EcluseError as error:
        if world.state.rollout(model).champion == leaving:
            why = f"version {leaving} could not be taken back: {error}"
            key = {"incident": f"failed/{digest(why)[:12]}"}
            told = any(row.event.evidence.get("incident") == key["incident"] for row in world.state.ledger(model=model))
            if not told:
                world.state.append(Event("alert.raised", world.clock.now(), ACTOR, model, leaving, why, key))
    return list(world.state.ledger(model=model, after=begun))
