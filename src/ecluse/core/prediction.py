"""Prediction and Outcome as the journal keeps them: what we said, what turned out true later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ecluse.core.expression import Value


@dataclass(frozen=True)
class Prediction:
    """One answered request. Times are RFC 3339 UTC text; ``moments`` the as-of of each view's values; ``inputs`` the raw features.

    ``score`` is the positive class's probability or the value; ``scores`` all classes of a multi-class model; ``unseen`` names inputs with
    a value never seen in training; ``degraded`` says why an answer was made with missing features.
    """

    kind: str
    id: str
    request_id: str
    time: str
    model: str
    version: int
    arm: str
    propensity: float
    entity: str | None
    as_of: str | None
    inputs: Mapping[str, Value]
    moments: Mapping[str, str]
    score: float
    scores: Mapping[str, float] | None
    threshold: float | None
    decision: bool | str | None
    unseen: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    latency_us: int = 0


@dataclass(frozen=True)
class OutcomeRecord:
    """A truth that arrived: about an entity at a label moment, or about one request. ``known_at`` is when it became known by the caller's word;
    without it, when it arrived (``time``).
    """

    kind: str
    time: str
    model: str
    entity: str | None
    at: str | None
    request_id: str | None
    value: Value
    extra: Mapping[str, Value] = field(default_factory=dict)
    known_at: str | None = None
