"""Calibration: a score as the probability it stands for, learnt from scores whose truths are known.

Beta calibration: Kull, Silva Filho, Flach, "Beta calibration: a well-founded and easily implemented improvement on logistic calibration
for binary classifiers", AISTATS 2017: logit(c) = a ln(s) - b ln(1 - s) + m with a, b >= 0, fitted by Newton's method. Three numbers, so
that a thousand rows suffice; (1, 1, 0) leaves scores as they are. Whether it still holds on other rows: the likelihood-ratio test of
Cox, "Two further applications of a model for binary regression", Biometrika 45 (1958), here against all three numbers fitted anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import Booleans, Floats, binary

_LEAST, _ROUNDS = 1e-5, 50
_HELD = 100.0  # weight of a prior at (1, 1, 0): few rows chase noise; measured best of 1, 100 and 400 over boosted, forest and linear models


@dataclass(frozen=True)
class Calibration:
    """logit(c) = ``a`` ln(s) - ``b`` ln(1 - s) + ``m``, never falling in the score s."""

    a: float = 1.0
    b: float = 1.0
    m: float = 0.0

    def __call__(self, scores: ArrayLike) -> Floats:
        """Probabilities (n,) of scores (n,) in [0, 1]."""
        return _sigmoid(_features(np.asarray(scores, dtype=np.float64)) @ np.array([self.a, self.b, self.m]))


@dataclass(frozen=True)
class Fit:
    """How well a calibration holds on rows: ``p_value`` that it does (likelihood ratio), ``shift`` the mean distance of the probabilities
    it gives from those fitted on these very rows, ``rate`` the share of positives beyond what it expects.
    """

    p_value: float
    shift: float
    rate: float


def calibrate(y: ArrayLike, scores: ArrayLike) -> Calibration:
    """The calibration that fits truths (n,) and scores (n,) in [0, 1] best. Raises InvalidInput without rows of both classes. O(n).

    >>> s = np.linspace(0.01, 0.99, 20_000)
    >>> y = np.random.default_rng(0).random(20_000) < s**2
    >>> calibrate(y, s)([0.5]).round(2).tolist()
    [0.25]
    """
    truths, found = binary(y, scores)
    if not truths.any() or truths.all():
        raise InvalidInput("one class only", where="calibration", cure="calibrate on rows of both classes")
    x, free = _features(found), [0, 1, 2]
    weights = _newton(x, truths.astype(np.float64), free)
    while (weights[:2] < 0).any():
        free = [place for place in free if place == 2 or weights[place] > 0]
        weights = _newton(x, truths.astype(np.float64), free)
    return Calibration(*(float(each) for each in weights))


def check(calibration: Calibration, y: ArrayLike, scores: ArrayLike) -> Fit:
    """Whether a calibration learnt elsewhere holds on these rows (n,). With one class only nothing is known of the slope: the rate is tested.

    >>> s = np.linspace(0.05, 0.95, 1_000)
    >>> y = np.random.default_rng(0).random(1_000) < s
    >>> check(Calibration(), y, s).p_value > 0.01, check(Calibration(), ~y, s).p_value < 1e-6
    (True, True)
    """
    truths, found = binary(y, scores)
    if truths.size == 0:
        raise InvalidInput("no rows", where="calibration", cure="pass rows whose truths are known")
    told = calibration(found)
    rate = float(truths.mean() - told.mean())
    spread = math.sqrt(float((told * (1 - told)).sum()))
    if not truths.any() or truths.all():
        z = rate * truths.size / max(spread, _LEAST)
        return Fit(math.erfc(abs(z) / math.sqrt(2)), abs(rate), rate)
    anew = calibrate(truths, found)(found)
    gain = 2 * (_likelihood(truths, anew) - _likelihood(truths, told))
    return Fit(_chi_square_3(max(gain, 0.0)), float(np.abs(anew - told).mean()), rate)


def _chi_square_3(x: float) -> float:
    """The chance of more than x under chi-square of three degrees, in closed form: no library is loaded for it."""
    return math.erfc(math.sqrt(x / 2)) + math.sqrt(2 * x / math.pi) * math.exp(-x / 2)


def _features(scores: Floats) -> Floats:
    inside = np.clip(scores, _LEAST, 1 - _LEAST)
    return np.column_stack([np.log(inside), -np.log1p(-inside), np.ones_like(inside)])


def _newton(x: Floats, y: Floats, free: list[int]) -> Floats:
    """Penalised maximum likelihood over the ``free`` numbers, the others 0."""
    prior = np.array([1.0, 1.0, 0.0])
    weights = np.where(np.isin(np.arange(3), free), prior, 0.0)
    part = x[:, free]
    for _ in range(_ROUNDS):
        told = _sigmoid(x @ weights)
        slope = part.T @ (y - told) - _HELD * (weights - prior)[free]
        bend = (part * (told * (1 - told))[:, None]).T @ part + _HELD * np.eye(len(free))
        step = np.linalg.solve(bend, slope)
        weights[free] += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _likelihood(y: Booleans, told: Floats) -> float:
    inside = np.clip(told, _LEAST, 1 - _LEAST)
    return float(np.where(y, np.log(inside), np.log1p(-inside)).sum())


def _sigmoid(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-np.clip(x, -40.0, 40.0)))
    return found
