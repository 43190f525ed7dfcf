"""Permutation importance: how much worse the judging metric gets when one input is shuffled among the held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ROWS, ROUNDS = 1_000, 3


def permutation_importance(
    score: Callable[[Array], Array],
    metric: Callable[[npt.NDArray[np.float64 | np.int64], Array], float],
    matrix: Array,
    y: npt.NDArray[np.float64 | np.int64],
    names: Sequence[str],
    *,
    greater_is_better: bool,
    seed: int = 0,
    rows: int = ROWS,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Mean loss of ``metric`` per input of the encoded ``matrix`` (n, F), in the metric's unit, seeded. O(F * rounds * rows).

    ``score`` is the packaged scorer, so that what is explained is what serves. At most ``rows`` rows are used.
    Breiman, "Random forests", Machine Learning 45 (2001); model-agnostic as in Fisher, Rudin & Dominici, JMLR 20 (2019).

    >>> x = np.column_stack([np.linspace(0, 1, 50), np.zeros(50)])
    >>> found = permutation_importance(
    ...     lambda m: m[:, 0],
    ...     lambda y, p: float(np.mean((y - p) ** 2)),
    ...     x,
    ...     x[:, 0],
    ...     ["a", "b"],
    ...     greater_is_better=False,
    ... )
    >>> found["a"] > 0, found["b"]
    (True, 0.0)
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(matrix), min(rows, len(matrix)), replace=False))
    x, truth = matrix[chosen], y[chosen]
    sign = 1.0 if greater_is_better else -1.0
    whole = metric(truth, score(x))
    found = {}
    for i, name in enumerate(names):
        losses = []
        for _ in range(rounds):
            shuffled = x.copy()
            shuffled[:, i] = rng.permutation(x[:, i])
            losses.append(sign * (whole - metric(truth, score(shuffled))))
        found[name] = float(np.mean(losses)) + 0.0  # -0.0 reads as an effect
    return found
