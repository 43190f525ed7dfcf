"""Run and ModelVersion: what a training produced, and what of it was registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from ecluse.core.model import Scalar
from ecluse.core.verdict import Verdict


class Stage(Enum):
    """None → Staging (gates passed) → Production (promoted) → Archived; Rejected was refused for good."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"
    REJECTED = "Rejected"


@dataclass(frozen=True)
class Run:
    """One training: what went in, what came out. ``metrics`` holds ``validation`` and ``train`` tables, ``segments`` the same per segment
    (``{"plan_type=Basic": {...}}``); ``facts`` the Git commit and whether the tree was dirty, who launched it, library versions.
    """

    id: str
    model: str
    started: datetime
    seconds: float
    recipe: str
    dataset: str
    bundle: str
    parameters: Mapping[str, Scalar | None]
    metrics: Mapping[str, Mapping[str, float | None]]
    segments: Mapping[str, Mapping[str, float | None]]
    rows: Mapping[str, int]
    threshold: float | None
    facts: Mapping[str, str]


@dataclass(frozen=True)
class ModelVersion:
    """A registered bundle. Only stage, threshold and the flags change, each by a recorded decision."""

    model: str
    number: int
    run: str
    bundle: str
    stage: Stage
    registered: datetime
    threshold: float | None = None
    pruned: bool = False
    held: bool = False


@dataclass(frozen=True)
class GateReport:
    """A Verdict about a version, bound to its bundle, its threshold and the champion it was compared with, valid until it expires."""

    model: str
    version: int
    bundle: str
    champion: int | None
    verdict: Verdict
    made: datetime
    expires: datetime
    dry: bool = False
    threshold: float | None = None
