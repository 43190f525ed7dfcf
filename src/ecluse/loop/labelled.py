"""Labelled rows: what a model can learn from at a moment. Mature labels with their features as of each label's own moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ecluse.core.contract import Table
from ecluse.core.entity import Entity, canonical_key
from ecluse.core.errors import InvalidInput
from ecluse.core.model import Model
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.snapshot import Dataset
from ecluse.data.frame import EVENT, KEY, KNOWN, identity_of
from ecluse.data.labels import AT, Labels, label_rows
from ecluse.features.view import feature_frame
from ecluse.loop.dataset import current_dataset, histories


@dataclass(frozen=True)
class Labelled:
    """``frame``: ``__key``, ``__at``, every feature, ``__event:<view>``; ``labels``: their truths ``y`` in the same rows, and what is
    still immature at the moment asked for. ``dataset`` names it: the same rows give the same dataset, whenever they are asked for.
    """

    dataset: Dataset
    frame: pl.DataFrame
    labels: Labels


def labelled_rows(
    world: World, project: Project, model: Model, moment: datetime, dataset: Dataset | None = None
) -> Labelled:
    """The rows as known at ``moment``; of exactly ``dataset`` when given (to reproduce a run). Raises NotFound without a snapshot."""
    tables = project.tables_of(model)
    found = current_dataset(world, tables, moment) if dataset is None else dataset
    known = histories(world, tables, found)
    label = model.predicts
    history = known[label.table.name]
    if dataset is None:
        found = Dataset(found.snapshots, settled_moment(found, history, model, moment))
    else:
        moment = dataset.moment
    labels = label_rows(history, label, moment)
    asks = labels.frame.select(KEY, AT).hstack(_given(history, model, labels, moment))
    return Labelled(found, feature_frame(model, asks, known), labels)


def settled_moment(dataset: Dataset, history: pl.DataFrame, model: Model, moment: datetime) -> datetime:
    """The earliest moment at which the same rows were known: the newest as-of, correction or maturity up to ``moment``.

    The clock itself must not be in a dataset's name: trained a second later on the same rows, the bundle is the same.
    """
    delay = model.predicts.delay
    ripe = history.filter(pl.col(KNOWN) <= moment, pl.col(EVENT) <= moment - delay)
    changes = ripe.select(pl.col(KNOWN).max().alias("known"), (pl.col(EVENT) + delay).max().alias("mature")).row(0)
    snapshots = [at for each in dataset.snapshots for at in (each.as_of, each.known_at) if at <= moment]
    return max([at for at in (*changes, *snapshots) if at is not None], default=moment)


def _given(history: pl.DataFrame, model: Model, labels: Labels, moment: datetime) -> pl.DataFrame:
    """What is asked with each row besides its key: request fields, and keys of other entities, out of the label's table."""
    table = model.predicts.table
    others = {v.table.key.name: v.table.key for v in model.features if v.table.key != table.key}
    needed = [*model.request, *(column for entity in others.values() for column in entity.columns)]
    if not needed:
        return pl.DataFrame()
    if missing := [name for name in needed if name not in table.columns and name not in table.key.columns]:
        raise InvalidInput(
            f"{', '.join(missing)} is not in the label's table {table.name}",
            where=f"model {model.name}",
            cure="declare it as a column there, with its value at the label's moment",
        )
    rows = _rows_of(history, model, moment)
    if not rows.select(KEY, AT).equals(labels.frame.select(KEY, AT)):
        raise InvalidInput(
            f"rows of {table.name} cannot be told apart", where=f"model {model.name}", cure="declare their identity"
        )
    keys = [_keys(rows, entity, table).alias(f"__key:{name}") for name, entity in others.items()]
    return pl.DataFrame([*(rows[name] for name in model.request), *keys])


def _rows_of(history: pl.DataFrame, model: Model, moment: datetime) -> pl.DataFrame:
    """The label table's rows in the order of ``label_rows``, every column kept."""
    label = model.predicts
    known = history.filter(pl.col(KNOWN) <= moment).sort(KNOWN, maintain_order=True)
    latest = known.unique(identity_of(label.table), keep="last", maintain_order=True)
    ripe = latest.filter(pl.col(EVENT) <= moment - label.delay, pl.col(label.column).is_not_null())
    return ripe.rename({EVENT: AT}).sort(KEY, AT, maintain_order=True)


def _keys(rows: pl.DataFrame, entity: Entity, table: Table) -> pl.Series:
    """Canonical keys of another entity out of its columns; null where one is missing. One conversion per distinct key."""
    columns = list(entity.columns)
    if table.key.columns == entity.columns:
        return rows[KEY]
    distinct = rows.select(columns).unique()
    keys = [
        None if None in row else canonical_key(entity, row[0] if len(row) == 1 else list(row))
        for row in distinct.rows()
    ]
    named = distinct.with_columns(pl.Series("__found", keys, dtype=pl.String))
    return rows.join(named, on=columns, how="left", nulls_equal=True, maintain_order="left")["__found"]
