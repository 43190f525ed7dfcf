"""What a compiled model costs and how exact it is: its nodes, one row, 256 rows, and 10,000 rows against the estimator.

Run with ``python -m bench.training.compile``. Prints a JSON object per model; times are the best of several repetitions,
in microseconds, on one thread, over 64 different rows in turn; compiling is CPU seconds, the best of three. Inputs: 14
features with 5 % missing values, and the model of ``bench/serving``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import polars as pl
from bench.serving import churn
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from xgboost import XGBClassifier

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
    return compared(name, model, held, FEATURES, classes)


def compared(
    name: str, model: Any, held: pl.DataFrame, features: tuple[Feature, ...], classes: int = 2
) -> dict[str, object]:
    """Compile a fitted model, compare, time."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        compiled = compile_model(model, features, "binary" if classes == 2 else "multiclass")
        seconds.append(time.process_time() - started)
    scorer = OnnxScorer(compiled)

    def predict(rows: pl.DataFrame) -> np.ndarray:
        answers = model.predict_proba(rows)
        return np.asarray(answers[:, 1] if classes == 2 else answers)

    result = parity(predict, scorer, held, features, threshold=0.5 if classes == 2 else None)
    x = encode(held, features)
    many, ones = x[:256].copy(), [x[i : i + 1].copy() for i in range(64)]

    def each() -> None:
        for one in ones:
            scorer.score(one)

    return {
        "model": name,
        "nodes": len(onnx.load_model_from_string(compiled).graph.node),
        "one_row_us": round(best(each, 20, 5) / 64, 1),
        "row_of_256_us": round(best(lambda: scorer.score(many), 20, 5) / 256, 2),
        "rows": result.rows,
        "max_difference": result.max_difference,
        "label_flips": result.label_flips,
        "compile_cpu_seconds": round(min(seconds), 3),
        "megabytes": round(len(compiled) / 1e6, 2),
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
    words = ColumnTransformer([("words", TargetEncoder(), ["w0", "w1"])], remainder="passthrough")
    models += [
        ("gradient boosting 100, scaled", make_pipeline(scaled_encoder(), GradientBoostingClassifier()), 2),
        ("histogram boosting, target-encoded", make_pipeline(words, HistGradientBoostingClassifier(max_iter=100)), 2),
        ("LightGBM 100, scaled", make_pipeline(scaled_encoder(), LGBMClassifier(verbose=-1)), 2),
        ("XGBoost 100, one-hot", make_pipeline(encoder(), XGBClassifier(n_estimators=100)), 2),
    ]
    served = churn.make_churn().pipeline
    print(json.dumps(compared("churn of bench/serving", served, churn.table(10_000, 3), churn.FEATURES)), flush=True)
    for name, model, classes in models:
        print(json.dumps(measure(name, model, classes)), flush=True)


if __name__ == "__main__":
    main()
