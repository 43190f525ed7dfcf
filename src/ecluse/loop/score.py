"""A whole population scored with the same scorer that serves: features as of now for every entity known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ecluse.core.codec import from_plain
from ecluse.core.errors import NotFound
from ecluse.core.model import Model
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.features.as_of import moment_frame
from ecluse.features.view import EVENT, feature_frame
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.materialize import universe
from ecluse.training.encode import encode


@dataclass(frozen=True)
class Scored:
    """One row per entity, highest first: ``key``, then ``score``, one column per class, or ``value``; and, per view, how many entities were
    left out because the view refuses to answer without a live row.
    """

    version: int
    frame: pl.DataFrame
    left_out: Mapping[str, int]


def score(world: World, project: Project, settings: Settings, model: str, number: int | None = None) -> Scored:
    """Every entity known now, as the server would answer for it. Raises NotFound before a release or once the version was pruned."""
    chosen = number if number is not None else world.state.rollout(model).champion
    if chosen is None:
        raise NotFound(f"{model} has no production version", cure="promote one, or name it with --version")
    bundle = world.bundles.get(world.state.version(model, chosen).bundle)
    declared = from_plain(Model, bundle.document("declaration.json"), where="declaration.json")
    now = world.clock.now()
    entity = declared.predicts.table.key
    tables = [table for table in project.tables if table.key == entity or table in project.tables_of(declared)]
    known = histories(world, tables, current_dataset(world, tables, now))
    asks = moment_frame(universe(project, entity, known, now), now)
    schema = bundle.schema
    features, left_out = _servable(declared, feature_frame(declared, asks, known))
    scores = world.open_scorer(bundle).score(encode(features, schema.features))
    names = (
        list(schema.classes) if schema.task == "multiclass" else ["value" if schema.task == "regression" else "score"]
    )
    frame = features.select(key="__key").hstack(pl.DataFrame(scores, schema=names))
    return Scored(chosen, frame.sort(names[0], "key", descending=[True, False]), left_out)


def _servable(model: Model, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows a server would answer for, and how many each refusing view takes away."""
    left_out: dict[str, int] = {}
    for view in model.features:
        live = pl.col(f"{EVENT}{view.name}").is_not_null()
        if view.missing == "refuse" and (gone := frame.filter(~live).height):
            left_out[view.name] = gone
            frame = frame.filter(live)
    return frame, left_out
