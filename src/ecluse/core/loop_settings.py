"""The tables of ecluse.toml that only the loop reads: who decides, what is watched, what sets it off and what holds it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """Who moves a version on: ``register`` after training, ``promotion`` after passed gates, ``retrain`` after a breached monitor."""

    register: Literal["manual", "automatic"] = "automatic"
    promotion: Literal["manual", "automatic"] = "manual"
    retrain: Literal["manual", "automatic"] = "automatic"


@dataclass(frozen=True)
class Monitoring:
    """When a window of predictions counts as drifted. A limit of 0 switches its statistic off.

    ``last`` / ``period``: the window judged by default (whichever is given; all predictions of the champion otherwise).
    A feature has drifted when any statistic passes its limit; the data has when ``drift_share`` of the features have.
    """

    last: int | None = None
    period: timedelta | None = None
    min_samples: int = 200
    psi: float = 0.2
    mean_shift: float = 0.5
    jensen_shannon: float = 0.1
    missing: float = 0.1
    unseen: float = 0.02
    prediction_psi: float = 0.25
    target_shift: float = 0.1
    drift_share: float = 0.2
    performance: Mapping[str, float] = field(default_factory=dict)
    min_outcomes: int = 200
