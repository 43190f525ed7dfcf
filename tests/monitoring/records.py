"""Journal records made by hand, as ``msgspec`` would read them back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ecluse.core.prediction import Prediction


def prediction(number: int, **changes: Any) -> dict[str, Any]:
    """The plain record of one prediction; ``number`` makes its id, request and entity."""
    values: dict[str, Any] = {
        "kind": "prediction",
        "id": f"w-{number}",
        "request_id": f"r-{number}",
        "time": "2024-01-31T00:00:00.000000Z",
        "model": "churn",
        "version": 1,
        "arm": "champion",
        "propensity": 1.0,
        "entity": f"u{number}",
        "as_of": "2024-01-31T00:00:00.000000Z",
        "inputs": {},
        "moments": {},
        "score": 0.5,
        "scores": None,
        "threshold": 0.5,
        "decision": True,
    }
    plain: dict[str, Any] = msgspec.to_builtins(Prediction(**(values | changes)))
    return plain


def predictions(columns: Mapping[str, Sequence[Any]], scores: Sequence[float], **changes: Any) -> list[dict[str, Any]]:
    """A record a row of the columns."""
    names, rows = list(columns), zip(*columns.values(), strict=True)
    return [
        prediction(i, inputs=dict(zip(names, row, strict=True)), score=float(score), **changes)
        for i, (row, score) in enumerate(zip(rows, scores, strict=True))
    ]


def population(rows: int, seed: int, *, shift: float = 0.0, missing: float = 0.0) -> dict[str, list[Any]]:
    """Two numbers, a boolean and a category; ``shift`` moves ``hours`` by so many of its deviations, ``missing`` empties that share."""
    rng = np.random.default_rng(seed)
    hours: list[Any] = (rng.normal(20 + 8 * shift, 8, rows)).tolist()
    gone = rng.random(rows) < missing
    return {
        "active": rng.choice([True, False], rows, p=[0.7, 0.3]).tolist(),
        "age": rng.integers(18, 80, rows).astype(float).tolist(),
        "hours": [None if lost else hour for lost, hour in zip(gone, hours, strict=True)],
        "plan": rng.choice(["Basic", "Gold", "Silver"], rows, p=[0.5, 0.2, 0.3]).tolist(),
    }


KINDS: dict[str, Any] = {"active": "boolean", "age": "number", "hours": "number", "plan": "category"}
