"""Backfill: features rebuilt over past snapshots, each as of its moment, out of what was known then and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ecluse.core.backfills import Backfills
from ecluse.core.codec import digest
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.view import FeatureView
from ecluse.features.as_of import moment_frame, view_as_of
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.materialize import universe


@dataclass(frozen=True)
class Backfilled:
    """One view at one moment: its rows, and whether they were written (False: the very same was there)."""

    view: str
    moment: datetime
    rows: int
    written: bool


def backfill(
    world: World, project: Project, store: Backfills, begin: datetime, end: datetime, views: Sequence[str] = ()
) -> tuple[Backfilled, ...]:
    """Rebuild ``views`` (all of them) as of every snapshot's moment from ``begin`` to ``end``, both inclusive.

    Done again it writes nothing, unless a view or what was known at a moment has changed. Appends ``features.backfilled`` when it wrote.
    Raises InvalidInput for an empty span, NotFound for an unknown view or when no snapshot is of that time.
    """
    if end < begin:
        raise InvalidInput(f"{format_instant(end)} is before {format_instant(begin)}", where="--to")
    chosen = _views(project, views)
    moments = sorted({each.as_of for each in world.state.snapshots() if begin <= each.as_of <= end})
    if not moments:
        raise NotFound("no snapshot is of that time", where="--from, --to", cure="see `ecluse history` for what is")
    done = tuple(each for moment in moments for each in _at(world, project, store, chosen, moment))
    written = [each for each in done if each.written]
    if written:
        evidence = {
            "from": begin,
            "to": end,
            "views": [view.name for view in chosen],
            "moments": len({each.moment for each in written}),
            "rows": sum(each.rows for each in written),
        }
        reason = f"{len(chosen)} views at {evidence['moments']} moments"
        fact = Event("features.backfilled", world.clock.now(), world.actor, reason=reason, evidence=evidence)
        world.state.append(fact)
    return done


def _views(project: Project, names: Sequence[str]) -> tuple[FeatureView, ...]:
    used = {view.name: view for model in project.models for view in model.features}
    for name in names:
        if name not in used:
            raise NotFound(f"no model reads a view `{name}`", where="--view", cure="views: " + ", ".join(sorted(used)))
    return tuple(used[name] for name in sorted(names or used))


def _at(
    world: World, project: Project, store: Backfills, views: Sequence[FeatureView], moment: datetime
) -> list[Backfilled]:
    """The views at one moment; nothing is read when all of them are there."""
    dataset = current_dataset(world, project.tables, moment)
    names = {view.name: digest([dataset.digest, view]) for view in views}
    missing = [view for view in views if not store.holds(view.name, moment, names[view.name])]
    if not missing:
        return [Backfilled(view.name, moment, 0, written=False) for view in views]
    frames = histories(world, project.tables, dataset)
    done = {view.name: Backfilled(view.name, moment, 0, written=False) for view in views}
    for view in missing:
        keys = universe(project, view.table.key, frames, moment)
        frame = _rows(view, frames[view.table.name], keys, moment)
        store.write(view.name, moment, names[view.name], frame)
        done[view.name] = Backfilled(view.name, moment, frame.height, written=True)
    return list(done.values())


def _rows(view: FeatureView, history: pl.DataFrame, keys: pl.Series, moment: datetime) -> pl.DataFrame:
    """``__key``, ``__at``, a column per feature, ``__event``: the numbers training and the online store get for that moment."""
    asks = moment_frame(keys, moment)
    return pl.concat([asks, view_as_of(history, view, asks)], how="horizontal")
