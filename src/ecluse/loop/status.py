"""The project at a glance, read from the authority alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ecluse.core.instants import format_instant, from_micros
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.version import Stage


@dataclass(frozen=True)
class ModelStatus:
    """A model's champion, what it can be rolled back to, its candidates in Staging, and how many versions are in each stage."""

    model: str
    champion: int | None
    previous: str
    candidates: str
    stage_counts: str


@dataclass(frozen=True)
class TableStatus:
    """A table's snapshots."""

    table: str
    snapshots: int
    as_of: str | None
    rows: int


@dataclass(frozen=True)
class Status:
    """Everything ``ecluse status`` says. ``behind`` counts changes the mirror has not seen."""

    project: str
    profile: str
    now: datetime
    clock: str
    server: str
    models: tuple[ModelStatus, ...]
    tables: tuple[TableStatus, ...]
    views: Mapping[str, str | None]
    behind: int


def status(world: World, project: Project, settings: Settings, server: str) -> Status:
    """The present state; ``server`` says what a probe of the server answered."""
    views = {view.name: world.online.moment(view.name) for view in project.views}
    return Status(
        settings.project,
        settings.profile,
        world.clock.now(),
        settings.time.now,
        server,
        tuple(_model(world, model.name) for model in project.models),
        tuple(_table(world, table.name) for table in project.tables),
        {name: None if micros is None else format_instant(from_micros(micros)) for name, micros in views.items()},
        len(world.state.pending()),
    )


def _model(world: World, name: str) -> ModelStatus:
    rollout = world.state.rollout(name)
    versions = world.state.versions(name)
    counts = Counter(version.stage.value for version in versions)
    candidates = [str(version.number) for version in versions if version.stage is Stage.STAGING]
    previous = ", ".join(str(number) for number in reversed(rollout.previous)) or "-"
    counted = ", ".join(f"{count} {stage}" for stage, count in sorted(counts.items()))
    return ModelStatus(name, rollout.champion, previous, ", ".join(candidates) or "-", counted or "-")


def _table(world: World, name: str) -> TableStatus:
    snapshots = world.state.snapshots(name)
    newest = max((snapshot.as_of for snapshot in snapshots), default=None)
    rows = sum(snapshot.rows for snapshot in snapshots)
    return TableStatus(name, len(snapshots), format_instant(newest) if newest else None, rows)
