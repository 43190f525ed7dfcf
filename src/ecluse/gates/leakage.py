"""Leakage: a single feature that nearly decides the target, and entities (or rows) on both sides of the split.

A feature's power is what it predicts alone, on the held-out rows: ROC-AUC (binary; mean one-versus-rest for multi-class) or R²
(regression). A number is ranked as it is, its missing values once below and once above all others: that a value is missing may be the
leak. Categories, and numbers cut into bins for multi-class, are replaced by the target's mean among *other* entities (two folds), so that
a column of many names is not powerful by chance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.schema import Feature
from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Array, Evidence
from ecluse.stats.histogram import reference_edges
from ecluse.stats.metrics_binary import roc_auc
from ecluse.stats.metrics_multiclass import roc_auc_ovr
from ecluse.stats.metrics_regression import r2

CHECK, OVERLAP = "leakage", "overlap"
LEAST_SHARE, LEAST_ROWS = 0.05, 30  # a number present on fewer rows cannot decide the target
Codes = npt.NDArray[np.int64]


def check_leakage(evidence: Evidence, gates: Gates) -> list[Finding]:
    """A failed finding per feature at ``gates.leak`` or above, or one passed finding that names the strongest. O(features · n log n)."""
    measure = "R²" if evidence.task == "regression" else "ROC-AUC"
    folds = np.unique(evidence.keys, return_inverse=True)[1] % 2
    powers = {each.name: power(evidence, each, folds) for each in evidence.schema.features}
    known = {name: value for name, value in powers.items() if not np.isnan(value)}
    found = [
        Finding(
            CHECK, Outcome.FAILED, f"{name} alone decides the target: {measure} {value:.4f}", value, gates.leak, name
        )
        for name, value in sorted(known.items())
        if value >= gates.leak
    ]
    if found:
        return found
    if not known:
        return [Finding(CHECK, Outcome.PASSED, "no feature could be measured alone", None, gates.leak)]
    best = max(known, key=lambda name: known[name])
    why = f"no feature decides the target alone; the strongest is {best}, {measure} {known[best]:.4f}"
    return [Finding(CHECK, Outcome.PASSED, why, known[best], gates.leak)]


def check_overlap(evidence: Evidence, gates: Gates) -> list[Finding]:
    """Nothing may stand on both sides of the split: no entity when it is by entity, no row when it is by time."""
    what = evidence.overlap_of
    ok = evidence.overlap == 0
    why = f"no {what} are trained on and judged on" if ok else f"{evidence.overlap} {what} are trained on and judged on"
    return [Finding(OVERLAP, Outcome.PASSED if ok else Outcome.FAILED, why, evidence.overlap, 0, what)]


def power(evidence: Evidence, feature: Feature, folds: Codes) -> float:
    """What one feature predicts alone, 0.5 to 1 (R²: at most 1); NaN where it cannot be said."""
    series, y = evidence.inputs[feature.name], evidence.y
    if feature.kind == "category":
        codes = series.cast(pl.String).fill_null("\0").rank("dense").to_numpy().astype(np.int64) - 1
        return _of_groups(evidence, codes, folds)
    x = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if evidence.task == "multiclass":
        edges = reference_edges(x)
        codes = np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, "left"))
        return _of_groups(evidence, codes.astype(np.int64), folds)
    if evidence.task == "regression":
        return _correlated(x, y)
    areas = [roc_auc(y, np.where(np.isnan(x), end, np.clip(x, -1e300, 1e300))) for end in (-np.inf, np.inf)]
    return max(max(area, 1 - area) for area in areas)


def _correlated(x: Array, y: Array) -> float:
    """The larger of the squared linear and rank correlations on the rows that have a value."""
    there = np.isfinite(x)
    if there.sum() < max(LEAST_ROWS, LEAST_SHARE * len(y)):
        return float("nan")
    x, y = x[there], y[there]
    ranks = [np.unique(each, return_inverse=True)[1].astype(np.float64) for each in (x, y)]
    return max(_squared(x, y), _squared(*ranks))


def _squared(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x @ x) * (y @ y)))
    return float((x @ y) / spread) ** 2 if spread > 0 else 0.0


def _of_groups(evidence: Evidence, codes: Codes, folds: Codes) -> float:
    """The power of group means learnt on one half of the entities and judged on the other."""
    if len(np.unique(folds)) < 2:
        return float("nan")
    targets = (
        np.eye(evidence.answers.shape[1])[evidence.y.astype(np.int64)]
        if evidence.task == "multiclass"
        else evidence.y[:, None]
    )
    means = np.empty((evidence.rows, targets.shape[1]))
    for fold in (0, 1):
        here, there = folds == fold, folds != fold
        counts = np.bincount(codes[there], minlength=int(codes.max()) + 1).astype(np.float64)
        for k in range(targets.shape[1]):
            sums = np.bincount(codes[there], weights=targets[there, k], minlength=counts.size)
            overall = targets[there, k].mean()
            # One row of the overall mean in every group: a group never seen elsewhere says nothing.
            means[here, k] = ((sums + overall) / (counts + 1))[codes[here]]
    if evidence.task == "multiclass":
        return roc_auc_ovr(evidence.y, means)
    return roc_auc(evidence.y, means[:, 0]) if evidence.task == "binary" else r2(evidence.y, means[:, 0])
