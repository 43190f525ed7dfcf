"""Outcomes: what was predicted, joined with the truths that have arrived since, by label tables and by callers' own reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from ecluse.core.errors import NotFound
from ecluse.core.expression import Value
from ecluse.core.instants import parse_instant, to_micros
from ecluse.core.model import Label
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.recipe import Split
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Verdict
from ecluse.data.labels import label_rows
from ecluse.loop.dataset import current_dataset, histories
from ecluse.monitoring.performance import Realised, Truths, join, judge_performance, question, realised, unlearnt
from ecluse.monitoring.window import Record, by_version


@dataclass(frozen=True)
class OutcomesReport:
    """Realised performance per version that answered; ``verdict`` judges the champion (or the newest version) against declared limits."""

    model: str
    versions: Mapping[int, Realised]
    verdict: Verdict


def outcomes(world: World, project: Project, settings: Settings, model: str) -> OutcomesReport:
    """Join the whole journal with what is known now. Linear in the journal. Raises NotFound for an unknown model."""
    declared, limits = project.model(model), settings.for_model(model)
    records = list(world.read_predictions(None, None, None))
    versions = by_version(records, model)
    asked = [record for each in versions.values() for record in each]
    truths = gather_truths(world, declared.predicts, model, asked, records)
    found: dict[int, Realised] = {}
    for number in sorted(versions):
        joined = unlearnt(join(versions[number], truths), _split(world, model, number))
        found[number] = realised(declared.task, classes_of(versions[number]), joined, limits.costs)
    champion = world.state.rollout(model).champion
    judged = champion if champion in found else max(found, default=None)
    findings: list[Finding] = []
    if judged is not None:
        findings = judge_performance(declared.task, judged, found[judged], limits.monitoring)
    return OutcomesReport(model, found, Verdict(f"performance of {model}", tuple(findings)))


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
    by_request: dict[str, Value] = {}
    reported: dict[tuple[str, int], Value] = {}
    for record in records:
        if record["kind"] != "outcome" or record["model"] != model:
            continue
        if record["request_id"] is not None:
            by_request[record["request_id"]] = record["value"]
        elif record["entity"] is not None and record["at"] is not None:
            reported[record["entity"], to_micros(parse_instant(record["at"]))] = record["value"]
    return Truths(by_request, _from_labels(world, label, asked) | reported)


def _from_labels(world: World, label: Label, asked: Sequence[Record]) -> dict[tuple[str, int], Value]:
    questions = {question(r) for r in asked if r["entity"] is not None and r["as_of"] is not None}
    if not questions:
        return {}
    now = world.clock.now()
    history = histories(world, [label.table], current_dataset(world, [label.table], now))[label.table.name]
    wanted = pl.DataFrame(
        {"__key": [key for key, _ in questions], "__at": [at for _, at in questions]},
        schema={"__key": pl.String, "__at": pl.Int64},
    ).with_columns(pl.col("__at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    known = label_rows(history, label, now).frame.join(wanted, on=["__key", "__at"], how="semi")
    return {(key, _micros(at)): y for key, at, y in known.select("__key", "__at", "y").iter_rows()}


def _micros(at: datetime) -> int:
    return to_micros(at.astimezone(UTC))
