"""Segment references: what the inputs looked like in each declared segment, on the rows a version was judged on; beside its bundle.

Written when a version is gated, because that is where its held-out rows are rebuilt and the segments (``gates.segments``) are read; a monitor
then needs no training data. The bundle itself does not hold them: what segments people want to see does not determine a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ecluse.core.codec import canonical, from_plain
from ecluse.core.errors import DeclarationError, NotFound
from ecluse.core.model import Model
from ecluse.core.ports import World
from ecluse.monitoring.sketch import Segments
from ecluse.stats.reference import describe_column
from ecluse.training.evaluate import segment_values

FILE = "segments.json"
MOST = 20
"""A column with more values is cut to those with the most rows."""
LEAST = 50
"""A segment with fewer rows has no reference: nothing could be told from noise."""


@dataclass(frozen=True)
class SegmentReferences:
    """The references as they lie beside a bundle."""

    format: int
    segments: Segments


def write_segments(world: World, bundle: str, model: Model, frame: pl.DataFrame, columns: Sequence[str]) -> None:
    """Describe the raw inputs of ``frame`` (n rows) in each segment of these columns, and write it beside the bundle."""
    if columns:
        found = SegmentReferences(1, describe_segments(model, frame, columns))
        world.bundles.write_beside(bundle, FILE, canonical(found))


def describe_segments(model: Model, frame: pl.DataFrame, columns: Sequence[str]) -> Segments:
    """Column -> value -> input -> reference. Columns that are no feature are left out. O(columns × rows × features)."""
    kinds = {name: kind for name, kind in model.raw_kinds.items() if kind != "instant" and name in frame.columns}
    found = {}
    for column in [each for each in columns if each in kinds]:
        named = frame.with_columns(segment_values(frame[column]).alias("__segment"))
        parts = sorted(named.partition_by("__segment", maintain_order=True), key=lambda part: -part.height)[:MOST]
        found[column] = {
            str(part["__segment"][0]): {
                name: describe_column(part[name].to_list(), kind) for name, kind in kinds.items() if name != column
            }
            for part in parts
            if part.height >= LEAST
        }
    return found


def read_segments(world: World, bundle: str, columns: Sequence[str]) -> Segments:
    """The references of these columns; none for a version gated before they were declared."""
    try:
        found = from_plain(SegmentReferences, json.loads(world.bundles.read_beside(bundle, FILE)), where=FILE)
    except (NotFound, ValueError, DeclarationError):
        return {}
    return {column: each for column, each in found.segments.items() if column in columns}
