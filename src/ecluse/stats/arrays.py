"""Checked arrays: what every statistic accepts, turned into plain numpy, or a clear refusal."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecluse.core.errors import InvalidInput

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

NAN = float("nan")


def vector(x: ArrayLike, name: str = "values") -> Floats:
    """``x`` as a 1-D float64 array; InvalidInput for any other shape or for text.

    >>> vector([1, 2])
    array([1., 2.])
    """
    try:
        found = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"{name} are not numbers", where="stats", cure="pass a one-dimensional numeric array"
        ) from error
    if found.ndim != 1:
        raise InvalidInput(f"{name} have shape {found.shape}", where="stats", cure="pass a one-dimensional array")
    return found


def sample(x: ArrayLike, name: str = "values") -> Floats:
    """``x`` as a 1-D float64 array without its NaN (missing) entries.

    >>> sample([1, float("nan"), 2])
    array([1., 2.])
    """
    found = vector(x, name)
    return found[~np.isnan(found)]


def counts_pair(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    """Two count vectors over the same bins; InvalidInput when lengths differ, a count is negative or not finite."""
    r, c = vector(reference, "reference counts"), vector(current, "current counts")
    if r.shape != c.shape or r.size == 0:
        raise InvalidInput(
            f"reference has {r.size} bins, current has {c.size}", where="stats", cure="count both over the same bins"
        )
    both = np.concatenate([r, c])
    if not np.isfinite(both).all() or (both < 0).any():
        raise InvalidInput("a count is negative or not finite", where="stats", cure="pass counts, not logs or shares")
    return r, c


def same_length(y: Floats | Integers | Booleans, prediction: Floats) -> None:
    """InvalidInput unless both have the same number of rows."""
    if len(y) != len(prediction):
        raise InvalidInput(
            f"{len(y)} labels but {len(prediction)} predictions", where="stats", cure="score the rows that have labels"
        )


def binary(y: ArrayLike, p: ArrayLike) -> tuple[Booleans, Floats]:
    """Labels as booleans and scores as floats, both (n,); InvalidInput when a label is neither 0 nor 1."""
    labels, scores = vector(y, "labels"), vector(p, "scores")
    same_length(labels, scores)
    positive = labels == 1.0
    if not (positive | (labels == 0.0)).all():
        raise InvalidInput("a binary label is neither 0 nor 1", where="stats", cure="encode the classes as 0 and 1")
    return positive, scores


def classes(y: ArrayLike, p: ArrayLike) -> tuple[Integers, Floats]:
    """Class codes (n,) in 0..k-1 and probabilities (n, k); InvalidInput when a code is outside."""
    codes, shares = vector(y, "labels"), np.asarray(p, dtype=np.float64)
    if shares.ndim != 2:
        raise InvalidInput(f"probabilities have shape {shares.shape}", where="stats", cure="pass (rows, classes)")
    same_length(codes, shares)
    whole = np.floor(codes)
    if not ((whole == codes) & (codes >= 0) & (codes < shares.shape[1])).all():
        raise InvalidInput(
            f"a label is not a class code in 0..{shares.shape[1] - 1}", where="stats", cure="encode classes as 0..k-1"
        )
    return whole.astype(np.int64), shares


def measurable(prediction: Floats) -> bool:
    """Whether there is at least one row and no prediction is NaN; otherwise a metric is NaN, never a guess."""
    return prediction.size > 0 and not bool(np.isnan(prediction).any())


def ratio(part: float, whole: float) -> float:
    """``part / whole``, and NaN for 0/0: undefined is said, not replaced by 0.

    >>> ratio(1, 2), ratio(0, 0)
    (0.5, nan)
    """
    return float(part / whole) if whole else NAN
