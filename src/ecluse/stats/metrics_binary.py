"""Metrics of a binary classifier: labels 0/1 and scores in, one number out.

Every function takes ``y`` (n,) of 0/1 and ``p`` (n,) of scores or probabilities and raises InvalidInput when lengths
differ or a label is neither 0 nor 1. One rule for what cannot be measured: an undefined ratio (one class only, nothing
predicted positive), an empty input or a NaN score gives NaN, never an exception and never a flattering 0 or 1.
A row is called positive when ``p >= threshold``. Tied scores share their rank, so the order of the rows never matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, Booleans, Floats, Integers, binary, measurable, ratio

_SMALLEST = float(np.finfo(np.float64).eps)


def roc_auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, a tie counting one half. O(n log n).

    Mann & Whitney (1947); Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    positive, scores = binary(y, p)
    if not measurable(scores):
        return NAN
    negatives = np.sort(scores[~positive])
    above = scores[positive]
    wins = np.searchsorted(negatives, above, "left") + np.searchsorted(negatives, above, "right")
    return ratio(float(wins.sum()) / 2, above.size * negatives.size)


def pr_auc(y: ArrayLike, p: ArrayLike) -> float:
    """Average precision: precision at each score that gains recall, weighted by that gain. O(n log n).

    Davis & Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006 (no interpolation).

    >>> round(pr_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    positive, scores = binary(y, p)
    if not measurable(scores) or not positive.any():
        return NAN
    tp, fp, _ = _sweep(positive, scores)
    gained = np.diff(tp, prepend=0)
    return float((gained * (tp / (tp + fp))).sum() / positive.sum())


def log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """Mean negative log likelihood in nats, probabilities clipped to [eps, 1 - eps] of a double.

    Good, "Rational decisions", JRSS B 14 (1952).

    >>> round(log_loss([0, 1], [0.1, 0.8]), 4)
    0.1643
    """
    positive, scores = binary(y, p)
    if not measurable(scores):
        return NAN
    clipped = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return float(-np.log(np.where(positive, clipped, 1 - clipped)).mean())


def brier(y: ArrayLike, p: ArrayLike) -> float:
    """Mean squared distance of probability and outcome, in [0, 1]. Brier, Monthly Weather Review 78 (1950).

    >>> round(brier([0, 1], [0.1, 0.8]), 4)
    0.025
    """
    positive, scores = binary(y, p)
    return float(((scores - positive) ** 2).mean()) if measurable(scores) else NAN


def confusion(y: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> dict[str, int]:
    """Counts ``tp fp fn tn`` at the threshold. A NaN score is never called positive.

    >>> confusion([0, 1, 1], [0.6, 0.7, 0.2])
    {'tp': 1, 'fp': 1, 'fn': 1, 'tn': 0}
    """
    positive, scores = binary(y, p)
    called = scores >= threshold
    tp, called_all, positives = int((called & positive).sum()), int(called.sum()), int(positive.sum())
    fp, fn = called_all - tp, positives - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": positive.size - tp - fp - fn}


def accuracy(y: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows called right at the threshold.

    >>> accuracy([0, 1, 1, 1], [0.6, 0.7, 0.2, 0.9])
    0.5
    """
    tp, fp, fn, tn = _cells(y, p, threshold)
    return ratio(tp + tn, tp + fp + fn + tn)


def precision(y: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> float:
    """Share of true positives among the rows called positive; NaN when none is called.

    >>> precision([0, 1, 1], [0.6, 0.7, 0.2])
    0.5
    """
    tp, fp, _, _ = _cells(y, p, threshold)
    return ratio(tp, tp + fp)


def recall(y: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> float:
    """Share of the positives that are called; NaN when there is none.

    >>> recall([0, 1, 1], [0.6, 0.7, 0.2])
    0.5
    """
    tp, _, fn, _ = _cells(y, p, threshold)
    return ratio(tp, tp + fn)


def f1(y: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> float:
    """Harmonic mean of precision and recall; NaN when nothing is positive and nothing is called. van Rijsbergen (1979).

    >>> f1([0, 1, 1], [0.6, 0.7, 0.2])
    0.5
    """
    tp, fp, fn, _ = _cells(y, p, threshold)
    return ratio(2 * tp, 2 * tp + fp + fn)


def expected_value(
    y: ArrayLike,
    p: ArrayLike,
    threshold: float = 0.5,
    *,
    false_positive: float,
    false_negative: float,
    action_value: float,
) -> float:
    """Mean value per row of acting at the threshold, in the unit of the costs.

    A true positive earns ``action_value``; errors pay their (positive) cost; a true negative is worth 0.
    Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.

    >>> expected_value([0, 1, 1, 0], [0.6, 0.7, 0.2, 0.1], false_positive=2, false_negative=5, action_value=20)
    3.25
    """
    tp, fp, fn, tn = _cells(y, p, threshold)
    return ratio(tp * action_value - fp * false_positive - fn * false_negative, tp + fp + fn + tn)


def precision_at(y: ArrayLike, p: ArrayLike, share: float) -> float:
    """Share of positives among the ``ceil(share * n)`` best scores; share in (0, 1].

    Scores tied at the cut count by their expectation under random tie-breaking, so row order does not matter.

    >>> precision_at([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1], 0.5)
    0.75
    """
    if not 0 < share <= 1:
        raise InvalidInput(f"share {share} of the best rows", where="stats", cure="use a share in (0, 1]")
    positive, scores = binary(y, p)
    if not measurable(scores):
        return NAN
    # Rounded first: 0.1 * 30 is 3.0000000000000004 and must take 3 rows, not 4.
    size = max(1, int(np.ceil(round(share * scores.size, 9))))
    cut = -np.partition(-scores, size - 1)[size - 1]
    above, tied = scores > cut, scores == cut
    room = size - int(above.sum())
    return float((positive[above].sum() + room * positive[tied].mean()) / size)


def lift_at(y: ArrayLike, p: ArrayLike, share: float) -> float:
    """``precision_at`` over the share of positives in all rows: 1 is a random list; NaN without positives.

    >>> lift_at([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1], 0.5)
    1.5
    """
    positive, _ = binary(y, p)
    return ratio(precision_at(y, p, share), float(positive.mean()) if positive.size else 0.0)


def calibration_error(y: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over equal-mass bins: mean gap of predicted and observed share, weighted by rows.

    Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015;
    equal mass as in Nixon et al., "Measuring calibration in deep learning" (2019). Tied scores stay in one bin.

    >>> round(calibration_error([0, 0, 1, 1], [0.2, 0.2, 0.7, 0.7], bins=2), 4)
    0.25
    """
    predicted, observed, rows = calibration_curve(y, p, bins)
    return ratio(float((rows * np.abs(predicted - observed)).sum()), float(rows.sum()))


def calibration_curve(y: ArrayLike, p: ArrayLike, bins: int = 10) -> tuple[Floats, Floats, Integers]:
    """Per equal-mass bin: mean predicted probability, observed share of positives, rows. Empty bins are left out.

    >>> [part.round(2).tolist() for part in calibration_curve([0, 0, 1, 1], [0.2, 0.2, 0.7, 0.7], bins=2)]
    [[0.2, 0.7], [0.0, 1.0], [2, 2]]
    """
    if bins < 1:
        raise InvalidInput(f"{bins} calibration bins", where="stats", cure="use at least one bin")
    positive, scores = binary(y, p)
    if not measurable(scores):
        return np.empty(0), np.empty(0), np.empty(0, dtype=np.int64)
    inner = np.quantile(scores, np.linspace(0, 1, bins + 1))[1:-1]
    which = np.searchsorted(inner, scores)
    rows = np.bincount(which, minlength=bins)
    kept = rows > 0
    predicted = np.bincount(which, scores, bins)[kept] / rows[kept]
    observed = np.bincount(which, positive, bins)[kept] / rows[kept]
    return predicted, observed, rows[kept].astype(np.int64)


def roc_curve(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """False positive rate, true positive rate and threshold, from (0, 0, inf) on; one point per distinct score.

    A rate is NaN where its class is absent.

    >>> [part.tolist() for part in roc_curve([0, 1, 1], [0.2, 0.2, 0.9])]
    [[0.0, 0.0, 1.0], [0.0, 0.5, 1.0], [inf, 0.9, 0.2]]
    """
    positive, scores = binary(y, p)
    tp, fp, thresholds = _sweep(positive, scores)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    tpr = np.r_[0.0, tp] / positives if positives else np.full(tp.size + 1, NAN)
    fpr = np.r_[0.0, fp] / negatives if negatives else np.full(fp.size + 1, NAN)
    return fpr, tpr, np.r_[np.inf, thresholds]


def pr_curve(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Precision and recall (m + 1) for rising thresholds (m); the last point (1, 0) calls nothing.

    >>> [part.round(2).tolist() for part in pr_curve([0, 1, 1], [0.2, 0.2, 0.9])]
    [[0.67, 1.0, 1.0], [1.0, 0.5, 0.0], [0.2, 0.9]]
    """
    positive, scores = binary(y, p)
    tp, fp, thresholds = _sweep(positive, scores)
    positives = int(positive.sum())
    rates = tp / positives if positives else np.full(tp.size, NAN)
    return np.r_[(tp / (tp + fp))[::-1], 1.0], np.r_[rates[::-1], 0.0], thresholds[::-1]


def _sweep(positive: Booleans, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """True and false positives called at each distinct score, from the highest down; and those scores."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order], dtype=np.float64)
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], np.ones(min(1, ranked.size), dtype=bool)])
    return hits[ends], ends + 1 - hits[ends], ranked[ends]


def _cells(y: ArrayLike, p: ArrayLike, threshold: float) -> tuple[int, int, int, int]:
    """``tp, fp, fn, tn``; all zero when the scores cannot be measured, so that every ratio of them is NaN."""
    cells = confusion(y, p, threshold)
    if not measurable(np.asarray(p, dtype=np.float64)):
        return 0, 0, 0, 0
    return cells["tp"], cells["fp"], cells["fn"], cells["tn"]
