"""Datasets: which snapshots answer a question asked at a moment, and the history of rows they hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ecluse.core.contract import Table
from ecluse.core.ports import World
from ecluse.core.snapshot import Dataset, Snapshot
from ecluse.data.frame import history_of


def current_dataset(world: World, tables: Sequence[Table], moment: datetime) -> Dataset:
    """The snapshots of these tables that may hold rows known at ``moment``, oldest ingest first.

    A snapshot as of later holds none, unless the table says itself when its rows were known.
    """
    declared = {table.name: table for table in tables}

    def counts(snapshot: Snapshot) -> bool:
        table = declared.get(snapshot.table)
        return table is not None and (snapshot.as_of <= moment or table.available_at is not None)

    return Dataset(tuple(snapshot for snapshot in world.state.snapshots() if counts(snapshot)), moment)


def histories(world: World, tables: Sequence[Table], dataset: Dataset) -> dict[str, pl.DataFrame]:
    """By table name, the rows of a dataset's snapshots in ingest order (an empty typed frame for a table without any)."""
    return {
        table.name: history_of([world.snapshots.read(s) for s in dataset.snapshots if s.table == table.name], table)
        for table in tables
    }
