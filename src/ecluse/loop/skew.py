"""Skew: the newest predictions' stored features recomputed from the snapshots, point in time, and held against what was served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ecluse.core.codec import from_plain
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.event import Event
from ecluse.core.expression import Value
from ecluse.core.instants import parse_instant
from ecluse.core.model import Model
from ecluse.core.ports import World
from ecluse.core.view import FeatureView
from ecluse.features.as_of import moment_frame, view_as_of
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.stretch import sample
from ecluse.monitoring.skew import Served, Skew, compare_served
from ecluse.monitoring.window import Record

ROWS = 1_000


def skew(world: World, model: str, *, rows: int = ROWS, actor: str) -> Skew:
    """Recompute the stored features of the newest ``rows`` predictions at the moments the store computed them as of.

    Each view is asked what was known at its moment, as ``ecluse materialize`` asked then. Appends ``skew.detected`` when a value differs.
    Raises NotFound before the first prediction, InvalidInput for no rows. Reads each moment's snapshots once.
    """
    if rows < 1:
        raise InvalidInput(f"a sample of {rows} predictions", where="skew", cure="ask for at least one")
    records = sample(world, model, rows)
    if not records:
        raise NotFound(f"{model} has not served anything yet", cure="start `ecluse serve`, send requests")
    declared = {number: _declared(world, model, number) for number in {each["version"] for each in records}}
    reasons = [_reason(each, declared[each["version"]]) for each in records]
    asked = [record for record, reason in zip(records, reasons, strict=True) if not reason]
    values = _recomputed(world, asked, declared)
    served = [Served(each, _of(each, declared[each["version"]], values)) for each in asked]
    found = compare_served(model, served, Counter(reason for reason in reasons if reason))
    if found.verdict.breached:
        evidence = {
            "compared": found.compared,
            "features": {each.feature: each.differ for each in found.features if each.differ},
            "requests": sorted({e.request_id for each in found.features for e in each.examples}),
        }
        why = "; ".join(f"{each.subject}: {each.why}" for each in found.verdict.failed)
        world.state.append(Event("skew.detected", world.clock.now(), actor, model, None, why, evidence))
    return found


def _declared(world: World, model: str, number: int) -> Model | None:
    """What a version declares; None once it was pruned."""
    try:
        bundle = world.bundles.get(world.state.version(model, number).bundle)
    except NotFound:
        return None
    return from_plain(Model, bundle.document("declaration.json"), where="declaration.json")


def _reason(record: Record, declared: Model | None) -> str:
    """Why a prediction cannot be recomputed; empty when it can."""
    if declared is None:
        return "its version was pruned"
    if record["entity"] is None or not record["moments"]:
        return "its features were sent by the caller"
    if not _views(record, declared):
        return "its stored features were missing, stale or of another entity"
    return ""


def _views(record: Record, declared: Model) -> list[FeatureView]:
    """The views whose stored values went into the answer as they were: of the journaled entity, and not degraded."""
    degraded = {each.partition(":")[0] for each in record["degraded"]}
    entity = declared.features[0].table.key  # the one the journal names, where a model reads of several
    return [
        view
        for view in declared.features
        if view.name in record["moments"] and view.name not in degraded and view.table.key == entity
    ]


Key = tuple[str, str, str]
"""View, moment, entity."""


def _recomputed(
    world: World, records: Sequence[Record], declared: Mapping[int, Model | None]
) -> dict[tuple[int, Key], Mapping[str, Value]]:
    """By version, view, moment and entity: the view's features as known at that moment."""
    wanted: dict[tuple[int, str, str], tuple[FeatureView, set[str]]] = {}
    for record in records:
        model = declared[record["version"]]
        for view in _views(record, model) if model is not None else ():
            place = record["version"], view.name, record["moments"][view.name]
            wanted.setdefault(place, (view, set()))[1].add(record["entity"])
    found: dict[tuple[int, Key], Mapping[str, Value]] = {}
    for moment in sorted({moment for _, _, moment in wanted}):
        at = parse_instant(moment)
        here = {place: each for place, each in wanted.items() if place[2] == moment}
        tables = list({view.table.name: view.table for view, _ in here.values()}.values())
        frames = histories(world, tables, current_dataset(world, tables, at))
        for (version, name, _), (view, keys) in here.items():
            for key, values in _values(frames[view.table.name], view, sorted(keys), at).items():
                found[version, (name, moment, key)] = values
    return found


def _values(history: pl.DataFrame, view: FeatureView, keys: list[str], at: datetime) -> dict[str, Mapping[str, Value]]:
    found = view_as_of(history, view, moment_frame(pl.Series("__key", keys, pl.String), at))
    plain = found.select(pl.col(name).to_physical() if kind == "instant" else name for name, kind in view.kinds.items())
    return dict(zip(keys, plain.to_dicts(), strict=True))


def _of(
    record: Record, declared: Model | None, values: Mapping[tuple[int, Key], Mapping[str, Value]]
) -> dict[str, Mapping[str, Value]]:
    assert declared is not None
    return {
        view.name: values[record["version"], (view.name, record["moments"][view.name], record["entity"])]
        for view in _views(record, declared)
    }
