"""Metrics of a multi-class classifier: class codes and a probability table in, one number out.

Every function takes ``y`` (n,) of codes 0..k-1 and ``p`` (n, k); the predicted class is the most probable (the lowest
code on a tie). InvalidInput for wrong shapes or codes. Empty input, a NaN probability and 0/0 give NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.stats import metrics_binary
from ecluse.stats.arrays import NAN, Integers, classes, measurable, ratio

_SMALLEST = float(np.finfo(np.float64).eps)


def confusion_matrix(y: ArrayLike, p: ArrayLike) -> Integers:
    """Counts (k, k): row = true class, column = predicted class.

    >>> confusion_matrix([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]).tolist()
    [[1, 0], [1, 1]]
    """
    codes, shares = classes(y, p)
    k = shares.shape[1]
    predicted = shares.argmax(axis=1) if k else codes
    return np.bincount(codes * k + predicted, minlength=k * k).reshape(k, k).astype(np.int64)


def accuracy(y: ArrayLike, p: ArrayLike) -> float:
    """Share of rows whose most probable class is the true one.

    >>> accuracy([0, 1, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
    0.75
    """
    table = _table(y, p)
    return NAN if table is None else ratio(float(np.trace(table)), float(table.sum()))


def balanced_accuracy(y: ArrayLike, p: ArrayLike) -> float:
    """Mean recall over the classes that occur. Brodersen et al., ICPR 2010.

    >>> balanced_accuracy([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    0.75
    """
    table = _table(y, p)
    if table is None:
        return NAN
    rows = table.sum(axis=1)
    seen = rows > 0
    return float((table.diagonal()[seen] / rows[seen]).mean())


def macro_f1(y: ArrayLike, p: ArrayLike) -> float:
    """Mean F1 over the classes that occur among labels or predictions.

    The mean of F1 values, not the F1 of means: Opitz & Burst, "Macro F1 and Macro F1" (2019).

    >>> round(macro_f1([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), 4)
    0.6667
    """
    table = _table(y, p)
    if table is None:
        return NAN
    both = table.sum(axis=0) + table.sum(axis=1)
    seen = both > 0
    return float((2 * table.diagonal()[seen] / both[seen]).mean())


def log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """Mean negative log probability of the true class in nats, clipped to [eps, 1 - eps] of a double.

    >>> round(log_loss([0, 1], [[0.9, 0.1], [0.2, 0.8]]), 4)
    0.1643
    """
    codes, shares = classes(y, p)
    if not measurable(shares):
        return NAN
    likely = np.clip(shares[np.arange(codes.size), codes], _SMALLEST, 1 - _SMALLEST)
    return float(-np.log(likely).mean())


def roc_auc_ovr(y: ArrayLike, p: ArrayLike) -> float:
    """Mean one-versus-rest ROC-AUC over the classes that have both members and non-members.

    Provost & Domingos, "Well-trained PETs" (2000), with equal class weights as in Hand & Till (2001). O(k n log n).

    >>> roc_auc_ovr([0, 1, 2], [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])
    1.0
    """
    codes, shares = classes(y, p)
    if not measurable(shares):
        return NAN
    areas = np.array([metrics_binary.roc_auc(codes == c, shares[:, c]) for c in range(shares.shape[1])])
    defined = areas[~np.isnan(areas)]
    return float(defined.mean()) if defined.size else NAN


def _table(y: ArrayLike, p: ArrayLike) -> Integers | None:
    """The confusion matrix, or None when the probabilities cannot be measured."""
    return confusion_matrix(y, p) if measurable(np.asarray(p, dtype=np.float64)) else None
