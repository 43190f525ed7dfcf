"""Drifting streams: dated rows with a label whose world changes, seeded, so that what a loop makes of them can be compared.

Every stream has numbers ``x1`` … ``x6``, a text ``group`` that shifts the odds, and a label drawn with ``sigmoid(3 w·x + x1 x2 / 2 + shift)``,
``w`` a unit vector in a plane; what drifts is the angle of ``w`` (the concept), or the place of ``x`` (the inputs). Rotating hyperplanes as in
Hulten, Spencer and Domingos (2001), "Mining time-changing data streams"; kinds of drift as in Gama et al. (2014), "A survey on concept drift
adaptation".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]

START = datetime(2024, 1, 1, tzinfo=UTC)
NUMBERS = 6
_GROUPS = ("a", "b", "c")
_SHIFTS = np.array([-0.5, 0.0, 0.5])


def steady(progress: Array) -> Array:
    """No drift: the angle of the concept at each moment (``progress`` from 0 to 1), in radians."""
    return np.zeros_like(progress)


def abrupt(progress: Array) -> Array:
    """Two sudden changes, of 70 degrees each."""
    return np.asarray(np.deg2rad(70.0) * np.floor(progress * 3).clip(0, 2), dtype=np.float64)


def gradual(progress: Array) -> Array:
    """A slow turn of 150 degrees in all."""
    return np.asarray(np.deg2rad(150.0) * progress, dtype=np.float64)


def recurring(progress: Array) -> Array:
    """Two concepts, 70 degrees apart, in turns: A B A B."""
    return np.asarray(np.deg2rad(70.0) * (np.floor(progress * 4).clip(0, 3) % 2), dtype=np.float64)


DRIFTS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {"abrupt": abrupt, "gradual": gradual, "recurring": recurring, "covariate": steady, "steady": steady}
)
"""By name; ``covariate`` keeps the concept and moves the inputs by two deviations, into a region where it bends."""


def stream(drift: str, *, days: int = 40, rows_a_day: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """A stream: ``row``, ``at`` (UTC, evenly spaced, ``rows_a_day``), ``x1`` … ``x6``, ``group``, ``label``. O(rows).

    >>> stream("abrupt", days=2, rows_a_day=10).columns
    ['row', 'at', 'x1', 'x2', 'x3', 'x4', 'x5', 'x6', 'group', 'label']
    """
    rng, rows = np.random.default_rng(seed), days * rows_a_day
    progress = np.arange(rows) / rows
    angle = DRIFTS[drift](progress)
    first, second = np.linalg.qr(rng.normal(size=(NUMBERS, 2)))[0].T
    weights = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    x = rng.normal(size=(rows, NUMBERS))
    if drift == "covariate":
        x += 2.0 * progress[:, None] * first
    group = rng.integers(0, len(_GROUPS), rows)
    logit = 3.0 * _bent((weights * x).sum(axis=1)) + x[:, 0] * x[:, 1] / 2 + _SHIFTS[group]
    label = rng.random(rows) < 1 / (1 + np.exp(-logit))
    step = timedelta(days=1) / rows_a_day
    numbers = {f"x{i + 1}": x[:, i].round(6) for i in range(NUMBERS)}
    return pl.DataFrame(
        {
            "row": np.arange(rows),
            "at": pl.Series([START + step * i for i in range(rows)], dtype=pl.Datetime("us", "UTC")),
            **numbers,
            "group": np.array(_GROUPS)[group],
            "label": label,
        }
    )


def _bent(z: Array) -> Array:
    """Straight where most rows lie at first, falling far out: a model that never saw that region is wrong there."""
    return np.where(z < 1.5, z, 3.0 - z)
