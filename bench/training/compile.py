"""What a compiled model costs and how exact it is: one row, 256 rows, and 10,000 rows against scikit-learn.

Run with ``python bench/training/compile.py``. Prints a JSON object per model; times are the best of several repetitions,
in microseconds, on one thread. Inputs: 14 features, 5 % missing values.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.schema import Feature
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encode import encode, model_frame
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.parity import parity

WORDS = ("annual", "family", "monthly", "trial")
FEATURES = (
    *(Feature(f"n{i:02}", "number") for i in range(12)),
    *(Feature(f"w{i}", "category", WORDS) for i in range(2)),
)


def table(rows: int, seed: int) -> pl.DataFrame:
    """Twelve numbers and two words, 5 % missing."""
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {f"n{i:02}": rng.normal(size=rows) for i in range(12)}
    data |= {f"w{i}": rng.choice(WORDS, rows) for i in range(2)}
    frame = pl.DataFrame(data)
    holes = {name: pl.Series(rng.random(rows) < 0.05) for name in frame.columns}
    return frame.with_columns(
        pl.when(hole).then(None).otherwise(pl.col(name)).alias(name) for name, hole in holes.items()
    )


def best(run: Callable[[], object], repeat: int, loops: int) -> float:
    """Microseconds a call, the best of ``repeat``."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(loops):
            run()
        times.append((time.perf_counter() - start) / loops * 1e6)
    return min(times)


def measure(name: str, model: Any, classes: int = 2) -> dict[str, object]:
    """Fit, compile, compare on 10,000 rows, time."""
    frame, held = table(5_000, 0), table(10_000, 1)
    score = (
        frame["n00"].fill_null(0)
        + frame["n01"].fill_null(0) * frame["n02"].fill_null(0)
        + (frame["w0"] == "trial").fill_null(False)
    )
    y = np.digitize(score.to_numpy() + np.random.default_rng(2).normal(size=frame.height), [0.3, 1.2][: classes - 1])
    model.fit(model_frame(frame, FEATURES), y)
    started = time.perf_counter()
    compiled = compile_model(model, FEATURES, "binary" if classes == 2 else "multiclass")
    seconds = time.perf_counter() - started
    scorer = OnnxScorer(compiled)

    def predict(rows: pl.DataFrame) -> np.ndarray:
        answers = model.predict_proba(rows)
        return np.asarray(answers[:, 1] if classes == 2 else answers)

    result = parity(predict, scorer, held, FEATURES, threshold=0.5 if classes == 2 else None)
    x = encode(held, FEATURES)
    one, many = x[:1].copy(), x[:256].copy()
    return {
        "model": name,
        "rows": result.rows,
        "max_difference": result.max_difference,
        "label_flips": result.label_flips,
        "compile_seconds": round(seconds, 3),
        "megabytes": round(len(compiled) / 1e6, 2),
        "one_row_us": round(best(lambda: scorer.score(one), 20, 200), 1),
        "row_of_256_us": round(best(lambda: scorer.score(many), 20, 5) / 256, 2),
    }


def main() -> None:
    """All models, one line each."""
    models: list[tuple[str, Any, int]] = [
        ("logistic regression, scaled, one-hot", make_pipeline(scaled_encoder(), LogisticRegression(max_iter=500)), 2),
        (
            "histogram boosting 100 x 31, one-hot",
            make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=100)),
            2,
        ),
        (
            "histogram boosting 100 x 31, native sets",
            HistGradientBoostingClassifier(categorical_features=["w0", "w1"]),
            2,
        ),
        ("random forest 300, one-hot", make_pipeline(encoder(), RandomForestClassifier(300, random_state=0)), 2),
        ("random forest 300, 3 classes", make_pipeline(encoder(), RandomForestClassifier(300, random_state=0)), 3),
    ]
    for name, model, classes in models:
        print(json.dumps(measure(name, model, classes)), flush=True)


if __name__ == "__main__":
    main()
