"""Told: truths as they come in, more than once, late, early, for nobody; and the one truth of each question that follows from all of them.

A pure fold: it depends on what was told and asked, not on the order in which either arrived. Every truth told is either the one used for its
question or stands in quarantine with the reason, so that ``told = used + duplicates + conflicts + orphans + early + future``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ecluse.core.expression import Value
from ecluse.core.instants import format_instant, from_micros
from ecluse.monitoring.performance import Truths, micros_of, question
from ecluse.monitoring.window import Record

Source = Literal["table", "entity", "request"]
Question: TypeAlias = tuple[str, int] | str
"""An entity's key and the moment in UTC microseconds; a request's id where the prediction names no entity."""
Reason = Literal["duplicate", "conflict", "orphan", "early", "future"]
RANK: Mapping[Source, int] = {"table": 0, "entity": 1, "request": 2}
"""Who is believed where sources differ: a report about a request, then one about an entity, then the label's table."""


@dataclass(frozen=True, slots=True)
class Told:
    """One telling: by whom, ``about`` which request id or (entity, moment), the value, and since when it is ``known`` (UTC microseconds)."""

    source: Source
    about: Question
    value: Value
    known: int

    @property
    def weight(self) -> tuple[int, int, str]:
        """Of several tellings the heaviest is believed: by source, then the newest known, then (for nothing to depend on order) by text."""
        return RANK[self.source], self.known, repr(self.value)


@dataclass(frozen=True, slots=True)
class Held:
    """A telling in quarantine, and why."""

    reason: Reason
    why: str
    told: Told


@dataclass(frozen=True)
class Counts:
    """Tellings by what became of them. ``used`` is one a question; ``late`` those of them known only after their label was due."""

    told: int = 0
    used: int = 0
    late: int = 0
    duplicates: int = 0
    conflicts: int = 0
    orphans: int = 0
    early: int = 0
    future: int = 0


@dataclass(frozen=True)
class Asked:
    """What predictions asked: per request id its question, per question the moment from which its label's delay runs."""

    requests: Mapping[str, Question] = field(default_factory=dict)
    moments: Mapping[Question, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Settled:
    """The truths to use, the counts, and everything else, sorted."""

    truths: Truths
    counts: Counts
    quarantine: tuple[Held, ...]


def asked_by(records: Iterable[Record]) -> Asked:
    """The questions of predictions, in any order. An id given to several requests names the newest of them. O(n)."""
    newest: dict[str, tuple[str, str, Question]] = {}
    moments: dict[Question, int] = {}
    for record in records:
        request = record["request_id"]
        about: Question = request
        if record["entity"] is not None and record["as_of"] is not None:
            about = question(record)
            at = about[1]
        else:
            at = micros_of(record["time"])
        moments[about] = max(at, moments.get(about, at))
        newest[request] = max(newest.get(request, ("", "", about)), (record["time"], record["id"], about), key=_age)
    return Asked({request: about for request, (_, _, about) in newest.items()}, moments)


def _age(asked: tuple[str, str, Question]) -> tuple[str, str]:
    return asked[:2]


def settle(told: Iterable[Told], asked: Asked, *, delay: int, now: int) -> Settled:
    """What is true of each question at ``now``, by all that was told; a label is mature ``delay`` after its moment (all microseconds).

    What was told early is held until its label is mature and used then, unless it was corrected meanwhile. O(n log n).

    >>> told = [
    ...     Told("entity", ("u1", 0), True, 5),
    ...     Told("entity", ("u1", 0), False, 7),
    ...     Told("entity", ("u9", 0), True, 5),
    ... ]
    >>> found = settle(told, Asked({}, {("u1", 0): 0}), delay=5, now=10)
    >>> found.truths.by_entity, found.counts.conflicts, found.counts.orphans
    ({('u1', 0): False}, 1, 1)
    """
    about: dict[Question, list[Told]] = {}
    held, used, late, total = list[Held](), dict[Question, Value](), 0, 0
    for each in told:
        total += 1
        if each.known > now:
            held.append(Held("future", f"it is known from {_text(each.known)} on, which is still to come", each))
            continue
        key = asked.requests.get(each.about, each.about) if isinstance(each.about, str) else each.about
        about.setdefault(key, []).append(each)
    for key, tellings in about.items():
        chosen = max(tellings, key=lambda each: each.weight)
        held += _outvoted(tellings, chosen)
        refusal = _refusal(key, asked, delay, now, chosen)
        if refusal is not None:
            held.append(refusal)
            continue
        used[key] = chosen.value
        late += chosen.known > asked.moments[key] + delay
    counts = _counts(total, len(used), late, held)
    truths = Truths(
        {key: value for key, value in used.items() if isinstance(key, str)},
        {key: value for key, value in used.items() if not isinstance(key, str)},
    )
    return Settled(truths, counts, tuple(sorted(held, key=_place)))


def _outvoted(tellings: list[Told], chosen: Told) -> list[Held]:
    """Everything but one telling of the value that is believed."""
    held, mine = [], False
    for each in tellings:
        if not mine and each == chosen:
            mine = True
        elif _same(each.value, chosen.value):
            held.append(Held("duplicate", "it was told before: counted once", each))
        else:
            by = "newer" if each.source == chosen.source else f"believed before the {each.source}'s"
            held.append(Held("conflict", f"{chosen.value} of the {chosen.source} is {by}", each))
    return held


def _refusal(key: Question, asked: Asked, delay: int, now: int, chosen: Told) -> Held | None:
    if not isinstance(key, str) and key[1] > now:
        return Held("future", f"it is about {_text(key[1])}, which is still to come", chosen)
    moment = asked.moments.get(key)
    if moment is None:
        return Held("orphan", "no such prediction is in the journal", chosen)
    if now < moment + delay:
        return Held("early", f"its label is mature from {_text(moment + delay)} on", chosen)
    return None


def _counts(told: int, used: int, late: int, held: list[Held]) -> Counts:
    of = Counter(each.reason for each in held)
    return Counts(told, used, late, of["duplicate"], of["conflict"], of["orphan"], of["early"], of["future"])


def _same(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _place(held: Held) -> tuple[str, str, tuple[int, int, str]]:
    return held.reason, str(held.told.about), held.told.weight


def _text(micros: int) -> str:
    return format_instant(from_micros(micros))
