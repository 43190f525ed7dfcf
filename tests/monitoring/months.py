"""Months of a service whose inputs move while their meaning stays, or whose meaning changes; and models trained on the month before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from ecluse.monitoring.estimated import Rows

MODELS = {
    "boosted trees": lambda seed: HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.06, max_leaf_nodes=7, min_samples_leaf=40, random_state=seed
    ),
    "a forest": lambda seed: RandomForestClassifier(100, min_samples_leaf=5, random_state=seed),
    "a linear model": lambda seed: LogisticRegression(),
}
CONCEPTS = {
    "a cause turns round": lambda x: _plain(x) - 1.4 * x[:, 0],
    "twice as many leave": lambda x: _plain(x) + 0.8,
    "less depends on what is known": lambda x: 0.4 * _plain(x) - 0.3,
    "others leave": lambda x: _plain(x) - 1.1 * x[:, 0] + 1.1 * x[:, 3],
}


@dataclass(frozen=True)
class House:
    """A fitted model, its validation rows, and the chance its months are drawn with."""

    model: Any
    validation: Rows
    rng: np.random.Generator

    def month(self, drift: float, rows: int, concept: Any = None) -> Rows:
        """What is served in a month, and what turns out."""
        x, y = draw(self.rng, rows, drift, concept or _plain)
        return Rows(self.model.predict_proba(x)[:, 1], y.astype(float))


def house(kind: str, seed: int) -> House:
    """Trained on three quarters of 7,000 rows, validated on the rest."""
    rng = np.random.default_rng(seed)
    x, y = draw(rng, 7_000, 0.0, _plain)
    model = MODELS[kind](seed).fit(x[:5_250], y[:5_250])
    return House(model, Rows(model.predict_proba(x[5_250:])[:, 1], y[5_250:].astype(float)), rng)


def draw(rng: np.random.Generator, rows: int, drift: float, concept: Any) -> tuple[np.ndarray, np.ndarray]:
    """Six inputs, three of which move by up to ``drift`` standard deviations, one of them in spread; and who leaves."""
    x = rng.normal(size=(rows, 6))
    x[:, 0] += drift
    x[:, 1] -= drift / 2
    x[:, 2] *= 1 + drift / 3
    return x, rng.random(rows) < 1 / (1 + np.exp(-concept(x)))


def split_up(rows: Rows, size: int = 1_000) -> list[Rows]:
    """Windows of so many rows."""
    return [Rows(rows.scores[i : i + size], rows.y[i : i + size], "", f"row {i}") for i in range(0, len(rows.y), size)]


def _plain(x: np.ndarray) -> np.ndarray:
    z: np.ndarray = -1.2 + 1.1 * x[:, 0] - 0.8 * x[:, 1] + 0.7 * x[:, 2] * x[:, 3] + 0.6 * np.sin(2 * x[:, 4])
    return z
