"""Sources: what arrived by itself is ingested and materialised, each drop once, and a source that falls behind is told.

What was taken or refused is read back from the ledger, so a killed process goes on where it was: a drop counts as taken only when its features
are in the online store, and taking it again until then changes nothing (an ingest knows what it holds). A refused drop is told once and tried
again when its bytes or the project's declaration change; it holds no other up. Nor does a source that cannot be reached: that is told once, and
it is tried again ever later, so that trying takes a tenth of the loop's time at most.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ecluse.core.codec import digest
from ecluse.core.errors import Conflict, DeclarationError, EcluseError, NotFound, Unavailable
from ecluse.core.event import Event
from ecluse.core.instants import format_duration, format_instant, parse_instant
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.source import Drops, Seen, Source, complete, is_late, moment_of
from ecluse.loop.ingest import IngestResult, ingest
from ecluse.loop.materialize import materialize

TAKEN, REFUSED, LATE = "source.taken", "source.refused", "data.late"
PATIENCE, SPARE = 60.0, 9.0
"""How long a source that cannot be reached is left alone: up to so many seconds, and so many times the time that was lost with it."""
LATER = (Unavailable, Conflict)
"""Errors that say nothing about a drop: it is tried again at the next look."""
_Ready = tuple[str, str, Seen]
"""A drop that may be taken: its moment as text that sorts (empty when its name says none), its source, what was seen of it."""
_log = logging.getLogger("ecluse.loop.sources")


@dataclass(frozen=True)
class Trouble:
    """Why a source cannot be reached, how often in a row it could not, and until when (monotonic seconds) it is left alone."""

    why: str
    times: int
    until: float


@dataclass
class Looks:
    """What is remembered between two looks. ``done`` and ``newest`` are folded from the ledger, up to row ``read``; the rest is found again.

    ``done``: identities taken, or refused under a declaration; ``stamps``: of drops known by heart, so that their bytes are not read again;
    ``first``: since when (monotonic seconds) a drop has had this stamp; ``looked``: when each source was; ``troubles``: of those out of reach.
    """

    read: int = 0
    begun: datetime | None = None
    done: set[str] = field(default_factory=set)
    newest: dict[str, datetime] = field(default_factory=dict)
    told: set[tuple[str, datetime]] = field(default_factory=set)
    stamps: dict[tuple[str, str], str] = field(default_factory=dict)
    first: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    looked: dict[str, float] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)

    def is_left_alone(self, name: str, monotonic: float) -> bool:
        """Whether a source failed so lately that it is not tried now."""
        return name in self.troubles and monotonic < self.troubles[name].until


@dataclass(frozen=True)
class Arrived:
    """A drop that was ingested (or refused, for ``reason``): its source, what was seen of it, its identity, its moment, rows per table."""

    source: str
    seen: Seen
    identity: str
    as_of: datetime | None
    rows: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


def check_sources(project: Project, settings: Settings) -> None:
    """Whether every table a source names is declared. Raises DeclarationError."""
    known = {table.name for table in project.tables}
    for name, source in settings.sources.items():
        for table in source.tables:
            if table not in known:
                cure = "tables: " + ", ".join(sorted(known))
                raise DeclarationError(f"`sources.{name}` brings `{table}`", where="ecluse.toml", cure=cure)


def take_arrivals(
    world: World, project: Project, settings: Settings, drops: Drops, looks: Looks, monotonic: float
) -> Sequence[Arrived]:
    """Look at every source whose turn it is, and take what is ready, by the moment it speaks of; then bring the online store up to now.

    Raises Unavailable (of the state or a store, not of a source), Conflict: then nothing is lost, and the next look goes on.
    """
    due = {
        name: source
        for name, source in settings.sources.items()
        if monotonic - looks.looked.get(name, float("-inf")) >= source.every.total_seconds()
        and not looks.is_left_alone(name, monotonic)
    }
    if not due:
        return ()
    fold(world, looks)
    ready: list[_Ready] = []
    for name in due:
        with _trouble_of(looks, name, monotonic):
            ready += _ready(world, project, settings, drops, looks, name, monotonic)
    ready.sort(key=lambda each: (each[0], each[1], each[2].name))
    arrived: list[Arrived] = []
    # A data clock jumps with each moment taken: what is online must follow before the next jump makes it stale.
    for _, together in itertools.groupby(ready, key=lambda each: each[0] if settings.time.now == "data" else ""):
        arrived += _take_together(world, project, settings, drops, looks, list(together), monotonic)
    fold(world, looks)
    tell_late(world, settings, looks)
    looks.looked |= dict.fromkeys(due, monotonic)
    for name in [name for name in due if name in looks.troubles and not looks.is_left_alone(name, monotonic)]:
        del looks.troubles[name]
        _log.info("well again", extra={"facts": {"source": name}})
    return arrived


@contextmanager
def _trouble_of(looks: Looks, name: str, monotonic: float) -> Iterator[None]:
    """Within, what cannot be reached is the trouble of one source: told when it is another than before, and no other waits for it."""
    began = time.monotonic()
    try:
        yield
    except Unavailable as error:
        lost, before = time.monotonic() - began, looks.troubles.get(name, Trouble("", 0, 0.0))
        alone = max(min(2.0 ** min(before.times, 10), PATIENCE), SPARE * lost)
        looks.troubles[name] = Trouble(str(error), before.times + 1, monotonic + lost + alone)
        if str(error) != before.why:
            _log.error("unreachable", extra={"facts": {"source": name, "why": str(error)}})


def _take_together(
    world: World,
    project: Project,
    settings: Settings,
    drops: Drops,
    looks: Looks,
    ready: Sequence[_Ready],
    monotonic: float,
) -> list[Arrived]:
    taken: list[Arrived | None] = []
    for _, name, seen in ready:
        if not looks.is_left_alone(name, monotonic):  # or it would be taken out of order
            with _trouble_of(looks, name, monotonic):
                taken.append(_take(world, project, settings, drops, looks, name, seen))
    arrived = list({each.identity: each for each in taken if each is not None}.values())  # it may lie there twice
    if any(not each.reason for each in arrived):
        materialize(world, project, settings)
    for each in arrived:
        _tell(world, project, each)
    return arrived


def fold(world: World, looks: Looks) -> None:
    """Read on in the ledger. Linear in the rows added since."""
    for row in world.state.ledger(after=looks.read):
        event, looks.read = row.event, row.sequence
        looks.begun = looks.begun or event.time
        known = event.evidence
        if event.kind in (TAKEN, REFUSED):
            looks.done.add(known["identity"])
            by_heart = known["stamp"] if event.kind == TAKEN else f"{known['stamp']} {known['declaration']}"
            looks.stamps[known["source"], known["drop"]] = by_heart
        if event.kind == TAKEN:
            source, moment = known["source"], _instant(known["as_of"])
            looks.newest[source] = max(moment, looks.newest.get(source, moment))
        if event.kind == LATE:
            looks.told.add((known["source"], _instant(known["newest"])))


def tell_late(world: World, settings: Settings, looks: Looks) -> None:
    """``data.late`` for each source behind its freshness, once until something newer comes. Before its first drop counts the first fact."""
    if (now := _now(world)) is None:
        return
    for name, source in settings.sources.items():
        newest = looks.newest.get(name, looks.begun)
        if newest is None or (name, newest) in looks.told or not is_late(source, newest, now):
            continue
        assert source.freshness is not None
        reason = (
            f"{name}: the newest is of {format_instant(newest)}, promised within {format_duration(source.freshness)}"
        )
        evidence = {"source": name, "newest": newest, "now": now, "freshness": source.freshness}
        world.state.append(Event(LATE, now, world.actor, reason=reason, evidence=evidence))
        looks.told.add((name, newest))


def _ready(
    world: World, project: Project, settings: Settings, drops: Drops, looks: Looks, name: str, monotonic: float
) -> list[_Ready]:
    """The drops of a source that are whole and new."""
    source, now = settings.sources[name], _now(world)
    found: list[_Ready] = []
    seen = drops.look(source)
    there = {(name, each.name) for each in seen}
    looks.first = {key: value for key, value in looks.first.items() if key[0] != name or key in there}
    for each in seen:
        key = (name, each.name)
        known = looks.stamps.get(key)
        if known == each.stamp or (known is not None and known == f"{each.stamp} {project.digest}"):
            continue
        stamp, since = looks.first.get(key, ("", 0.0))
        if stamp != each.stamp:
            since = monotonic
            looks.first[key] = (each.stamp, since)
        if not complete(source, each, timedelta(seconds=monotonic - since)):
            continue
        try:
            moment = moment_of(source, each)
        except EcluseError:
            found.append(("", name, each))  # refused when it is taken
            continue
        if settings.time.now == "system" and now is not None and moment > now:
            continue  # it speaks of a moment that has not come: then
        found.append((format_instant(moment), name, each))
    return found


def _take(
    world: World, project: Project, settings: Settings, drops: Drops, looks: Looks, name: str, seen: Seen
) -> Arrived | None:
    """Ingest a drop unless it was dealt with before. Raises Unavailable, Conflict; whatever else goes wrong refuses this drop alone."""
    source = settings.sources[name]
    tables = (name,) if not source.tables and any(table.name == name for table in project.tables) else source.tables
    file = project.table(tables[0]).file if len(tables) == 1 else None
    content, moment = seen.stamp, None
    try:
        with drops.fetch(source, seen, file) as fetched:
            if fetched is None:
                return None  # it changes still
            content, moment = fetched.digest, moment_of(source, seen)
            if _is_done(project, looks, name, seen, _identity(source, name, content, moment)):
                return None
            result = ingest(world, project, settings, fetched.folder, moment, actor=world.actor, only=tables)
    except LATER:
        raise
    except Exception as error:  # noqa: BLE001 - one drop nobody can read must not hold the others up
        why = str(error) if isinstance(error, EcluseError) else f"{type(error).__name__}: {error}"
        return Arrived(name, seen, _identity(source, name, content, moment), moment, reason=why)
    why = "" if result.passed else _findings(result)
    rows = {each.table: each.rows for each in result.tables}
    return Arrived(name, seen, _identity(source, name, content, moment), moment, rows, why)


def _identity(source: Source, name: str, content: str, moment: datetime | None) -> str:
    """What a drop is: its bytes, and the moment its name says they speak of (the same bytes may hold at two moments)."""
    return digest([name, content, None if source.as_of == "modified" else moment])


def _refusal(identity: str, project: Project) -> str:
    return digest([identity, project.digest])


def _is_done(project: Project, looks: Looks, name: str, seen: Seen, identity: str) -> bool:
    if identity in looks.done:
        looks.stamps[name, seen.name] = seen.stamp
    elif _refusal(identity, project) in looks.done:
        looks.stamps[name, seen.name] = f"{seen.stamp} {project.digest}"
    else:
        return False
    return True


def _findings(result: IngestResult) -> str:
    return "; ".join(
        f"{each.table}: {', '.join(finding.why for finding in each.verdict.findings if not finding.passed)}"
        for each in result.tables
        if not each.verdict.passed
    )


def _tell(world: World, project: Project, arrived: Arrived) -> None:
    """The fact that ends it: from now on the drop is done."""
    seen, taken = arrived.seen, not arrived.reason
    evidence = {
        "source": arrived.source,
        "drop": seen.name,
        "stamp": seen.stamp,
        "identity": arrived.identity if taken else _refusal(arrived.identity, project),
        "declaration": project.digest,
        "as_of": arrived.as_of,
        "rows": arrived.rows,
    }
    rows = f"{sum(arrived.rows.values()):,} rows of {len(arrived.rows)} tables"
    reason = f"{seen.name}: {rows if taken else arrived.reason}"
    now = _now(world) or arrived.as_of or datetime.now(UTC)
    world.state.append(Event(TAKEN if taken else REFUSED, now, world.actor, reason=reason, evidence=evidence))
    _log.info("taken" if taken else "refused", extra={"facts": {"drop": seen.name, "why": reason}})


def _instant(value: object) -> datetime:
    """A moment of a fact: text once it was written."""
    return value if isinstance(value, datetime) else parse_instant(str(value))


def _now(world: World) -> datetime | None:
    """The project's present; None while a data clock has not been set."""
    try:
        return world.clock.now()
    except NotFound:
        return None
