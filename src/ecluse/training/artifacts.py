"""Artifacts for people: curves, confusion matrix, importance, sample predictions. Made after the release path, never on it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.ports import Scorer
from ecluse.core.schema import Schema
from ecluse.stats.catalog import metric_of
from ecluse.stats.metrics_binary import calibration_curve, confusion, pr_curve, roc_curve
from ecluse.stats.metrics_multiclass import confusion_matrix
from ecluse.training import plots
from ecluse.training.encode import encode
from ecluse.training.importance import permutation_importance
from ecluse.training.target import UNSEEN

Array = npt.NDArray[np.float64]
Files = dict[str, bytes]
POINTS, SAMPLES = 500, 200


@dataclass(frozen=True)
class HeldOut:
    """The rows a version was judged on: inputs, key and moment (``frame``), target codes or values (n,), the scorer's answers (n, K)."""

    frame: pl.DataFrame
    y: npt.NDArray[Any]
    scores: Array


def make_artifacts(
    held: HeldOut,
    schema: Schema,
    scorer: Scorer,
    *,
    judged_by: str,
    threshold: float | None,
    costs: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Files:
    """File name -> bytes: JSON and CSV always, PNG where matplotlib is installed. Rows of a class never trained on are left out."""
    if schema.task == "multiclass":
        known = held.y != UNSEEN
        held = HeldOut(held.frame.filter(pl.Series(known)), held.y[known], held.scores[known])
    files = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}[schema.task](
        held, schema, threshold
    )
    files |= _importance(held, schema, scorer, judged_by, threshold, costs, seed)
    files["sample_predictions.csv"] = _samples(held, schema, threshold, seed)
    return files


def coefficients(estimator: Any) -> dict[str, Any] | None:
    """Names and coefficients of a linear model behind its encoders; None for any other.

    >>> from sklearn.linear_model import Ridge
    >>> coefficients(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]))["names"]
    ['x0']
    """
    steps = getattr(estimator, "steps", None)
    last = steps[-1][1] if steps else estimator
    if not hasattr(last, "coef_"):
        return None
    weights = np.atleast_2d(np.asarray(last.coef_, dtype=np.float64))
    try:
        names = (
            [str(name) for name in estimator[:-1].get_feature_names_out()] if steps else list(last.feature_names_in_)
        )
    except (AttributeError, ValueError, TypeError):  # a step that cannot name what it makes
        names = [f"x{i}" for i in range(weights.shape[1])]
    if len(names) != weights.shape[1]:
        names = [f"x{i}" for i in range(weights.shape[1])]
    return {
        "names": [str(n) for n in names],
        "coefficients": weights.tolist(),
        "intercept": np.atleast_1d(last.intercept_).tolist(),
    }


def _binary(held: HeldOut, schema: Schema, threshold: float | None) -> Files:
    y, p = held.y.astype(np.int64), held.scores[:, 0]
    cut = 0.5 if threshold is None else threshold
    fpr, tpr, _ = roc_curve(y, p)
    precision, recall, _ = pr_curve(y, p)
    told, seen, rows = calibration_curve(y, p)
    cells = confusion(y, p, cut)
    counts = [[cells["tn"], cells["fp"]], [cells["fn"], cells["tp"]]]
    roc, pr, calibration = (_thin(fpr), _thin(tpr)), (_thin(recall), _thin(precision)), (told.tolist(), seen.tolist())
    files = {
        "roc_curve.json": _json({"fpr": roc[0], "tpr": roc[1]}),
        "pr_curve.json": _json({"recall": pr[0], "precision": pr[1]}),
        "calibration.json": _json({"predicted": calibration[0], "observed": calibration[1], "rows": rows.tolist()}),
        "confusion_matrix.json": _json({"threshold": cut, **cells}),
    }
    if plots.can_plot():
        files |= {
            "roc_curve.png": plots.curve(
                "ROC", "false positive rate", "true positive rate", [(schema.model, *roc)], diagonal=True
            ),
            "pr_curve.png": plots.curve("Precision and recall", "recall", "precision", [(schema.model, *pr)]),
            "calibration.png": plots.curve(
                "Calibration", "predicted", "observed", [(schema.model, *calibration)], diagonal=True
            ),
            "confusion_matrix.png": plots.matrix(f"At threshold {cut:g}", ["negative", "positive"], counts),
        }
    return files


def _multiclass(held: HeldOut, schema: Schema, _: float | None) -> Files:
    counts = confusion_matrix(held.y, held.scores).tolist()
    lines, calibration = [], []
    for i, name in enumerate(schema.classes):
        fpr, tpr, _cuts = roc_curve((held.y == i).astype(np.int64), held.scores[:, i])
        told, seen, _rows = calibration_curve((held.y == i).astype(np.int64), held.scores[:, i])
        lines.append((name, _thin(fpr), _thin(tpr)))
        calibration.append((name, told.tolist(), seen.tolist()))
    files = {
        "confusion_matrix.json": _json({"classes": list(schema.classes), "counts": counts}),
        "roc_curve.json": _json({name: {"fpr": x, "tpr": y} for name, x, y in lines}),
        "calibration.json": _json({name: {"predicted": x, "observed": y} for name, x, y in calibration}),
    }
    if plots.can_plot():
        files |= {
            "confusion_matrix.png": plots.matrix("Truth and decision", list(schema.classes), counts),
            "roc_curve.png": plots.curve(
                "ROC, one class against the rest", "false positive rate", "true positive rate", lines, diagonal=True
            ),
            "calibration.png": plots.curve("Calibration", "predicted", "observed", calibration, diagonal=True),
        }
    return files


def _regression(held: HeldOut, schema: Schema, _: float | None) -> Files:
    p = held.scores[:, 0]
    residuals = held.y - p
    summary = {f"q{int(100 * q)}": float(np.quantile(residuals, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    files = {"residuals.json": _json(summary)}
    if plots.can_plot():
        some = np.linspace(0, len(p) - 1, min(POINTS, len(p))).astype(int)
        files["predicted_actual.png"] = plots.points(
            schema.model, "predicted", "actual", p[some].tolist(), held.y[some].tolist()
        )
    return files


def _importance(
    held: HeldOut,
    schema: Schema,
    scorer: Scorer,
    judged_by: str,
    threshold: float | None,
    costs: Mapping[str, float] | None,
    seed: int,
) -> Files:
    metric = metric_of(schema.task, judged_by)
    function = metric.closed(threshold=0.5 if threshold is None else threshold, costs=costs)
    flat = schema.task != "multiclass"
    values = permutation_importance(
        lambda x: scorer.score(x)[:, 0] if flat else scorer.score(x),
        function,
        encode(held.frame, schema.features),
        held.y,
        [feature.name for feature in schema.features],
        greater_is_better=metric.greater_is_better,
        seed=seed,
    )
    ordered = dict(sorted(values.items(), key=lambda item: (-_size(item[1]), item[0])))
    files = {"importance.json": _json({"metric": judged_by, "loss": ordered})}
    if plots.can_plot():
        shown = {name: value for name, value in ordered.items() if math.isfinite(value)}
        files["importance.png"] = plots.bars("Permutation importance", f"loss of {judged_by}", shown)
    return files


def _size(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _samples(held: HeldOut, schema: Schema, threshold: float | None, seed: int) -> bytes:
    """Some held-out rows with truth, answer and decision, as CSV."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(held.y), min(SAMPLES, len(held.y)), replace=False))
    rows = held.frame[chosen.tolist()]
    names = [feature.name for feature in schema.features]
    outputs = (
        list(schema.classes) if schema.task == "multiclass" else ["value" if schema.task == "regression" else "score"]
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["key", "at", "truth", *outputs, *([] if threshold is None else ["decision"]), *names])
    for i, (key, at, *inputs) in zip(chosen, rows.select("__key", "__at", *names).iter_rows(), strict=True):
        truth = schema.classes[int(held.y[i])] if schema.classes else held.y[i].item()
        decision = [] if threshold is None else [bool(held.scores[i, 0] >= threshold)]
        writer.writerow([key, at.isoformat(), truth, *held.scores[i].tolist(), *decision, *inputs])
    return out.getvalue().encode()


def _thin(values: npt.NDArray[np.float64]) -> list[float]:
    """At most ``POINTS`` of a curve's points, the ends among them."""
    if not len(values):
        return []
    some = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).astype(int))
    return [float(value) for value in values[some]]


def _json(value: object) -> bytes:
    return json.dumps(_plain(value), indent=1, sort_keys=False, allow_nan=False).encode()


def _plain(value: object) -> object:
    """NaN and infinity have no JSON form: null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
