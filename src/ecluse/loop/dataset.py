"""Datasets: which snapshots answer a question asked at a moment, and the history of rows they hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ecluse.core.contract import Table
from ecluse.core.ports import World
from ecluse.core.snapshot import Dataset
from ecluse.data.frame import history_of


def current_dataset(world: World, tables: Sequence[Table], moment: datetime) -> Dataset:
    """The snapshots of these tables that hold rows known at ``moment``, oldest ingest first.

    What was ingested later, a correction of an old as-of included, does not change what a past moment is answered from.
    """
    names = {table.name for table in tables}
    known = (each for each in world.state.snapshots() if each.table in names and each.known_from <= moment)
    return Dataset(tuple(known), moment)


def histories(world: World, tables: Sequence[Table], dataset: Dataset) -> dict[str, pl.DataFrame]:
    """By table name, the rows of a dataset's snapshots in ingest order (an empty typed frame for a table without any)."""
    return {
        table.name: history_of([world.snapshots.read(s) for s in dataset.snapshots if s.table == table.name], table)
        for table in tables
    }
