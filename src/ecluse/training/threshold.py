"""The decision threshold of a binary model, chosen on the validation rows by a declared rule; a row is positive when score >= threshold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ecluse.core.errors import DeclarationError
from ecluse.core.settings import FILE, Threshold

Array = npt.NDArray[np.float64]


def choose_threshold(rule: Threshold, y: npt.NDArray[np.int64], p: Array, costs: Mapping[str, float] | None) -> float:
    """The threshold for ``y`` (n,) of 0/1 and scores ``p`` (n,) by ``rule``: its fixed value, best F1, or best expected value. O(n log n).

    Every cut between two distinct scores is tried, and calling everyone or no one. The result lies inside the best gap, at its shortest
    decimal, so that a last bit of a score cannot change a decision; of equally good cuts the highest (fewest actions) is taken. Raises
    DeclarationError for the rule "value" without costs.

    >>> choose_threshold(Threshold("f1"), np.array([0, 0, 1, 1]), np.array([0.1, 0.35, 0.4, 0.8]), None)
    0.38
    """
    if rule.rule == "fixed":
        return rule.value
    if rule.rule == "value" and costs is None:
        raise DeclarationError(
            'threshold.rule = "value" needs costs',
            where=FILE,
            cure="declare [costs] false_positive, false_negative, action_value",
        )
    cuts, tp, fp = _sweep(y, p)
    fn = y.sum() - tp
    if rule.rule == "f1":
        worth = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
    else:
        assert costs is not None
        worth = tp * costs["action_value"] - fp * costs["false_positive"] - fn * costs["false_negative"]
    best = int(np.argmax(worth))
    return max(0.0, shortest_between(float(cuts[best + 1]), float(cuts[best])))


def shortest_between(low: float, high: float) -> float:
    """The number with the fewest decimals (two at least) strictly between; ``high`` itself when they are neighbours.

    >>> shortest_between(0.3512, 0.3999), shortest_between(0.35, 0.351)
    (0.38, 0.3505)
    """
    middle = low + (high - low) / 2
    for digits in range(2, 17):
        found = round(middle, digits)
        if low < found < high:
            return found
    return high


def _sweep(y: npt.NDArray[np.int64], p: Array) -> tuple[Array, Array, Array]:
    """Distinct scores falling, framed by a number above and one below them all; true and false positives when calling those above each gap."""
    order = np.argsort(-p, kind="stable")
    scores, hits = p[order], y[order]
    last = np.append(np.flatnonzero(np.diff(scores)), scores.size - 1)
    tp = np.concatenate([[0], np.cumsum(hits)[last]]).astype(np.float64)
    called = np.concatenate([[0], last + 1]).astype(np.float64)
    lowest = float(scores[-1])
    below = 0.0 if lowest > 0 else lowest - 0.02
    above = max(float(scores[0]) + 0.02, 1.02) if scores[0] >= 1 else 1.0
    return np.concatenate([[above], scores[last], [below]]), tp, called - tp
