"""Expected metrics: what a classifier's metrics would be if its calibrated probabilities were true, without any truth.

Confidence-based performance estimation (CBPE): Kivimäki, Białek, Kuberski, Nurminen, "Performance estimation in binary classification using
calibrated confidence" (2025), after Guillory et al., "Predicting with confidence on unseen distributions", ICCV 2021. Each row counts as
``c`` of a positive and ``1 - c`` of a negative. It holds for inputs that move; it cannot see that the same inputs now mean something else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.stats.arrays import NAN, Floats, ratio, same_length, vector


def expected_binary(scores: ArrayLike, calibrated: ArrayLike, threshold: float = 0.5) -> dict[str, float]:
    """roc_auc, accuracy, precision, recall and f1 at ``threshold``, of scores (n,) whose calibrated probabilities are (n,). O(n log n).

    Undefined ones are NaN. Raises InvalidInput for unequal lengths.

    >>> found = expected_binary([0.1, 0.9], [0.0, 1.0])
    >>> found["roc_auc"], found["accuracy"], found["f1"]
    (1.0, 1.0, 1.0)
    """
    s, c = vector(scores, "scores"), vector(calibrated, "probabilities")
    same_length(c, s)
    called = s >= threshold
    tp, fp = float(c[called].sum()), float((1 - c[called]).sum())
    fn, tn = float(c[~called].sum()), float((1 - c[~called]).sum())
    return {
        "roc_auc": expected_roc_auc(s, c),
        "accuracy": ratio(tp + tn, s.size),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }


def expected_roc_auc(scores: ArrayLike, calibrated: ArrayLike) -> float:
    """The chance that a positive scores above a negative, ties half, where row i is positive with probability c_i. NaN for no such pair.

    >>> expected_roc_auc([0.2, 0.2, 0.2], [0.5, 0.1, 0.9])
    0.5
    """
    s, c = vector(scores, "scores"), vector(calibrated, "probabilities")
    values, place = np.unique(s, return_inverse=True)
    positive = np.bincount(place, weights=c, minlength=values.size)
    negative = np.bincount(place, weights=1 - c, minlength=values.size)
    below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
    own = float((c * (1 - c)).sum())  # no row is compared with itself
    wins = float((positive * (below + negative / 2)).sum()) - own / 2
    return ratio(wins, float(c.sum()) * float((1 - c).sum()) - own)


def expected_multiclass(scores: ArrayLike, calibrated: ArrayLike) -> dict[str, float]:
    """accuracy, balanced_accuracy, macro_f1 and roc_auc_ovr, of scores (n, k) whose calibrated shares, summing to 1, are (n, k).

    >>> found = expected_multiclass([[0.9, 0.1], [0.2, 0.8]], [[1.0, 0.0], [0.0, 1.0]])
    >>> found["accuracy"], found["roc_auc_ovr"]
    (1.0, 1.0)
    """
    s, c = np.asarray(scores, dtype=np.float64), np.asarray(calibrated, dtype=np.float64)
    if not s.size:
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "roc_auc_ovr"), NAN)
    k = s.shape[1]
    said = s.argmax(axis=1)
    table = np.stack([c[said == j].sum(axis=0) for j in range(k)], axis=1)  # row: true class, column: predicted
    rows, both = table.sum(axis=1), table.sum(axis=0) + table.sum(axis=1)
    areas = np.array([expected_roc_auc(s[:, j], c[:, j]) for j in range(k)])
    return {
        "accuracy": ratio(float(np.trace(table)), float(table.sum())),
        "balanced_accuracy": _mean(table.diagonal()[rows > 0] / rows[rows > 0]),
        "macro_f1": _mean(2 * table.diagonal()[both > 0] / both[both > 0]),
        "roc_auc_ovr": _mean(areas[~np.isnan(areas)]),
    }


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else NAN
