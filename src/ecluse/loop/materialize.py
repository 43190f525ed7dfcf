"""Materialise: bring the online store up to a moment, for every view a model reads and every key of its entity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ecluse.core.entity import Entity
from ecluse.core.errors import InvalidInput
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.view import FeatureView
from ecluse.features.as_of import known_keys
from ecluse.features.materialize import online_rows
from ecluse.loop.dataset import current_dataset, histories


@dataclass(frozen=True)
class ViewMaterialized:
    """Rows of one view: ``written``, and ``kept`` because the store holds the same or values of a later moment; ``live`` have an event."""

    view: str
    written: int
    kept: int
    live: int


@dataclass(frozen=True)
class MaterializeResult:
    """What was computed as of ``moment`` from the dataset of that digest, view by view."""

    moment: datetime
    dataset: str
    views: tuple[ViewMaterialized, ...]


def materialize(
    world: World, project: Project, settings: Settings, moment: datetime | None = None
) -> MaterializeResult:
    """Compute and store every view the models read, as of ``moment`` (the clock's present unless given). Appends the event.

    Each view is written whole or not at all, and never over values of a later moment: run again after an interruption.
    Raises InvalidInput for a moment the clock has not reached: its values would keep out the true ones when it comes.
    """
    now = world.clock.now()
    moment = now if moment is None else moment
    if moment > now:
        raise InvalidInput(
            f"{format_instant(moment)} has not come yet",
            where=f"the clock ({settings.time.now}) says {format_instant(now)}",
            cure="give an earlier moment, or move a data clock on with `ecluse clock set`",
        )
    dataset = current_dataset(world, project.tables, moment)
    frames = histories(world, project.tables, dataset)
    keys = {entity.name: universe(project, entity, frames, moment) for entity in project.entities()}
    views = tuple(
        _store(world, view, frames[view.table.name], keys[view.table.key.name], moment) for view in _views(project)
    )
    evidence = {
        "moment": moment,
        "dataset": dataset.digest,
        "views": {each.view: {"written": each.written, "kept": each.kept, "live": each.live} for each in views},
    }
    world.state.append(Event("features.materialized", now, world.actor, evidence=evidence))
    return MaterializeResult(moment, dataset.digest, views)


def _views(project: Project) -> tuple[FeatureView, ...]:
    """The views some model reads, each once, by name."""
    used = {view.name: view for model in project.models for view in model.features}
    return tuple(used[name] for name in sorted(used))


def universe(project: Project, entity: Entity, frames: dict[str, pl.DataFrame], moment: datetime) -> pl.Series:
    """Every key of an entity known by the moment in any of its tables: no row in one table is a fact, too."""
    tables = [table.name for table in project.tables if table.key == entity]
    return pl.concat([known_keys(frames[name], moment) for name in tables]).unique().sort()


def _store(
    world: World, view: FeatureView, history: pl.DataFrame, keys: pl.Series, moment: datetime
) -> ViewMaterialized:
    rows = online_rows(history, view, keys, moment)
    written, kept = world.online.write(view.name, rows)
    return ViewMaterialized(view.name, written, kept, sum(row.event is not None for _, row in rows))
