"""Seeded rows of the small project: what the three labels depend on, month after month."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

PROJECT = Path(__file__).resolve().parent / "small"


def write_month(folder: Path, as_of: datetime, *, people: int = 400, seed: int = 0) -> Path:
    """CSV files of one month in a folder of its own."""
    rng = np.random.default_rng(seed)
    key = [f"p{i:04}" for i in range(people)]
    age, hours = rng.normal(45, 12, people).clip(18, 90), rng.gamma(2, 10, people)
    region = rng.choice(["north", "south", "west"], people)
    senior = age > 60
    noise = rng.normal(0, 0.6, people)
    pull = (20 - hours) / 14 + 0.8 * (region == "west") + noise
    tables: dict[str, dict[str, Any]] = {
        "people": {"age": [None if lost else f"{a:.1f}" for a, lost in zip(age, rng.random(people) < 0.1, strict=True)],
                   "region": region, "senior": ["true" if s else "false" for s in senior]},
        "visits": {"hours": hours.round(2), "clicks": rng.poisson(hours + 1)},
        "truths": {"left": ["true" if p > 0.3 else "false" for p in pull],
                   "tier": np.where(pull > 0.6, "none", np.where(hours > 25, "gold", "basic")),
                   "spend": (50 + 2 * hours + 5 * senior + 3 * noise).round(3)},
    }  # fmt: skip
    target = folder / as_of.date().isoformat()
    target.mkdir(parents=True)
    for name, columns in tables.items():
        pl.DataFrame({"person": key, **columns}).write_csv(target / f"{name}.csv")
    return target
