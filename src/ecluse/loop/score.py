"""A whole population scored with the same scorer that serves: features as of now for every entity known."""

from __future__ import annotations

import polars as pl

from ecluse.core.codec import from_plain
from ecluse.core.errors import NotFound
from ecluse.core.model import Model
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.features.view import feature_frame
from ecluse.loop.dataset import current_dataset, histories
from ecluse.training.encode import encode


def score(world: World, project: Project, settings: Settings, model: str, number: int | None = None) -> pl.DataFrame:
    """One row per entity, highest first: ``key``, ``score`` (or one column per class, or ``value``). Raises NotFound before a release."""
    chosen = number if number is not None else world.state.rollout(model).champion
    if chosen is None:
        raise NotFound(f"{model} has no production version", cure="promote one, or name it with --version")
    bundle = world.bundles.get(world.state.version(model, chosen).bundle)
    declared = from_plain(Model, bundle.document("declaration.json"), where="declaration.json")
    now = world.clock.now()
    tables = project.tables_of(declared)
    known = histories(world, tables, current_dataset(world, tables, now))
    keys = pl.concat([known[view.table.name].get_column("__key") for view in declared.features]).unique().sort()
    asks = pl.DataFrame({"__key": keys, "__at": pl.Series([now] * len(keys), dtype=pl.Datetime("us", "UTC"))})
    schema = bundle.schema
    scores = world.open_scorer(bundle).score(encode(feature_frame(declared, asks, known), schema.features))
    names = (
        list(schema.classes) if schema.task == "multiclass" else ["value" if schema.task == "regression" else "score"]
    )
    frame = pl.DataFrame({"key": keys}).hstack(pl.DataFrame(scores, schema=names))
    return frame.sort(names[0], "key", descending=[True, False])
