"""Outcomes: what was predicted, joined with the truths that have arrived since, by label tables and by callers' own reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ecluse.core.codec import digest, to_plain
from ecluse.core.contract import Integer
from ecluse.core.errors import NotFound
from ecluse.core.event import Event
from ecluse.core.instants import parse_instant, to_micros
from ecluse.core.model import Label
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.recipe import Split
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Verdict
from ecluse.data.frame import EVENT, KEY, KNOWN, identity_of
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.estimates import estimated
from ecluse.loop.once import tell_once
from ecluse.monitoring.estimated import Estimated, judge_estimated
from ecluse.monitoring.performance import Joined, Realised, Truths, join, judge_performance, parts, realised, unlearnt
from ecluse.monitoring.told import Asked, Counts, Settled, Told, asked_by, settle
from ecluse.monitoring.window import Record, by_version

NEEDED = (
    "kind",
    "id",
    "request_id",
    "time",
    "model",
    "version",
    "arm",
    "entity",
    "as_of",
    "score",
    "scores",
    "threshold",
)
"""Of a prediction's record, besides its inputs."""


@dataclass(frozen=True)
class Part:
    """Realised performance of one ``arm`` or one ``segment`` ("plan=Basic") of a version; the other is empty."""

    version: int
    arm: str
    segment: str
    realised: Realised


@dataclass(frozen=True)
class OutcomesReport:
    """Realised performance per version that answered; ``verdict`` judges the champion (or the newest version) against declared limits.

    ``counts``: what became of every truth told. ``parts``: per arm and segment of each version. ``estimated``: per version, of the answers
    whose truths are still to come; ``estimates`` holds the judged version's against the same limits, for people: nothing is decided on it.
    """

    model: str
    versions: Mapping[int, Realised]
    verdict: Verdict
    counts: Counts
    parts: tuple[Part, ...]
    estimated: Mapping[int, Estimated]
    estimates: Verdict


def outcomes(world: World, project: Project, settings: Settings, model: str) -> OutcomesReport:
    """Join the whole journal with what is known now. Linear in the journal. Raises NotFound for an unknown model.

    Appends ``outcomes.settled`` when the counts are others than when it was last told: what is in quarantine is on record.
    """
    declared, limits = project.model(model), settings.for_model(model)
    records = _records(world, model, limits.gates.segments)
    versions = by_version(records, model)
    settled = settle_truths(world, declared.predicts, model, versions, records)
    wanted = {declared.judged_by, *limits.monitoring.performance}
    found: dict[int, Realised] = {}
    guessed: dict[int, Estimated] = {}
    split_up: list[Part] = []
    for number in sorted(versions):
        classes = classes_of(versions[number])
        joined = unlearnt(join(versions[number], settled.truths), _split(world, model, number))
        found[number] = realised(declared.task, classes, joined, limits.costs, wanted)
        for kind, name, part in parts(joined, limits.gates.segments, limits.gates.segment_rows):
            known = realised(declared.task, classes, part, limits.costs, wanted)
            split_up.append(Part(number, *((name, "") if kind == "arm" else ("", name)), known))
        guess = _estimated(world, model, number, declared.task, classes, joined, limits)
        guessed |= {} if guess is None else {number: guess}
    verdict, estimates = _judged(world, model, declared.task, found, guessed, limits)
    report = OutcomesReport(model, found, verdict, settled.counts, tuple(split_up), guessed, estimates)
    _tell(world, report)
    return report


def quarantine(world: World, project: Project, model: str) -> Settled:
    """Every truth told that is not used, with its reason, and the counts. Linear in the journal. Raises NotFound for an unknown model."""
    records = _records(world, model)
    return settle_truths(world, project.model(model).predicts, model, by_version(records, model), records)


def _records(world: World, model: str, columns: Sequence[str] = ()) -> list[Record]:
    """Every record of a model, of a prediction only what is joined and counted: all are held at once, and the inputs, of which
    ``columns`` are kept, are most of one.
    """
    alike: dict[Any, Any] = {}  # one object for the texts that many records share
    records = world.read_predictions(None, None, None, model=model)
    return [_joinable(each, columns, alike) if each["kind"] == "prediction" else each for each in records]


def _joinable(record: Record, columns: Sequence[str], alike: dict[Any, Any]) -> Record:
    shared = {name: alike.setdefault(record[name], record[name]) for name in ("kind", "model", "arm", "as_of")}
    inputs = {name: record["inputs"][name] for name in columns if name in record["inputs"]}
    return {**{name: record[name] for name in NEEDED}, **shared, "inputs": inputs}


def _judged(
    world: World,
    model: str,
    task: str,
    found: Mapping[int, Realised],
    guessed: Mapping[int, Estimated],
    limits: Settings,
) -> tuple[Verdict, Verdict]:
    """Of the champion, else of the newest version that answered: what is realised, and what is estimated."""
    champion = world.state.rollout(model).champion
    number = champion if champion in found else max(found, default=None)
    findings: list[Finding] = []
    guesses: list[Finding] = []
    if number is not None:
        findings = judge_performance(task, number, found[number], limits.monitoring)
    if number is not None and number in guessed:
        guesses = judge_estimated(task, number, guessed[number], limits.monitoring.performance)
    question = f"performance of {model}"
    return Verdict(question, tuple(findings)), Verdict(f"estimated {question}", tuple(guesses))


def _estimated(
    world: World, model: str, number: int, task: str, classes: Sequence[str], joined: Joined, limits: Settings
) -> Estimated | None:
    try:
        bundle = world.state.version(model, number).bundle
    except NotFound:
        return None
    return estimated(world, bundle, task, classes, joined, limits.monitoring)


def _tell(world: World, report: OutcomesReport) -> None:
    """The counts, once each time they are others: looked at twice, it is one fact."""
    if not report.counts.told:
        return
    evidence = {
        "key": digest({"model": report.model, "counts": report.counts}),
        "counts": to_plain(report.counts),
        "estimated": {str(number): dict(each.metrics) for number, each in report.estimated.items()},
    }
    now, why = world.clock.now(), sentence(report.counts)
    tell_once(world, Event("outcomes.settled", now, world.actor, report.model, None, why, evidence))


def sentence(counts: Counts) -> str:
    """The counts for people.

    >>> sentence(Counts(told=5, used=3, duplicates=2))
    '5 truths told, 3 used, 2 duplicates'
    """
    names = ("late", "duplicates", "conflicts", "orphans", "early", "future")
    held = [f"{number:,} {name}" for name in names if (number := getattr(counts, name))]
    return ", ".join([f"{counts.told:,} truths told", f"{counts.used:,} used", *held])


def _split(world: World, model: str, number: int) -> Split | None:
    """Who a version was trained on; None once it was pruned."""
    try:
        return world.bundles.get(world.state.version(model, number).bundle).manifest.split
    except NotFound:
        return None


def classes_of(records: Sequence[Record]) -> tuple[str, ...]:
    """The classes a multi-class version answers, in the scorer's order; () for other tasks."""
    return tuple(records[-1]["scores"] or ()) if records else ()


def gather_truths(world: World, label: Label, model: str, asked: Sequence[Record], records: Iterable[Record]) -> Truths:
    """The truths of predictions ``asked``: mature rows of the label's table known now, overruled by outcomes among ``records``.

    Joined on the entity and the very moment the features were of: a label row at that moment says what happened after it.
    """
    return settle_truths(world, label, model, {0: asked}, records).truths


def settle_truths(
    world: World, label: Label, model: str, versions: Mapping[int, Sequence[Record]], records: Iterable[Record]
) -> Settled:
    """Every truth told about the questions of these predictions, by the label's table and by the outcomes among ``records``, settled now."""
    now = world.clock.now()
    asked = asked_by(record for each in versions.values() for record in each)
    told = [*reported(model, records), *_tabled(world, label, asked, now)]
    return settle(told, asked, delay=label.delay // timedelta(microseconds=1), now=to_micros(now))


def reported(model: str, records: Iterable[Record]) -> Iterator[Told]:
    """What callers told of a model, among journal records; known since when they say so, else since it arrived."""
    for record in records:
        if record["kind"] != "outcome" or record["model"] != model:
            continue
        known = to_micros(parse_instant(record.get("known_at") or record["time"]))
        if record["request_id"] is not None:
            yield Told("request", record["request_id"], record["value"], known)
        elif record["entity"] is not None and record["at"] is not None:
            about = record["entity"], to_micros(parse_instant(record["at"]))
            yield Told("entity", about, record["value"], known)


def _tabled(world: World, label: Label, asked: Asked, now: datetime) -> Iterator[Told]:
    """What the label's table ever said of these questions. A row emptied since says nothing."""
    questions = [each for each in asked.moments if not isinstance(each, str)]
    if not questions:
        return
    history = histories(world, [label.table], current_dataset(world, [label.table], now))[label.table.name]
    wanted = pl.DataFrame(
        {KEY: [key for key, _ in questions], "__about": [at for _, at in questions]},
        schema={KEY: pl.String, "__about": pl.Int64},
    )
    identity, y = identity_of(label.table), pl.col(label.column)
    y = y.cast(pl.Float64) if isinstance(label.table.columns[label.column], Integer) else y
    known = history.filter(pl.col(KNOWN) <= now).sort(KNOWN, maintain_order=True)
    rows = known.with_columns(y.alias("__y"), y.last().over(identity).alias("__last"))
    rows = rows.filter(pl.col("__last").is_not_null(), pl.col("__y").is_not_null())
    about = rows.select(KEY, _micros(EVENT).alias("__about"), _micros(KNOWN).alias("__known"), "__y")
    for key, at, since, value in about.join(wanted, on=[KEY, "__about"], how="semi").iter_rows():
        yield Told("table", (key, at), value, since)


def _micros(column: str) -> pl.Expr:
    return pl.col(column).dt.timestamp("us")
