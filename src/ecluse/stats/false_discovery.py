"""False-discovery control: which of many p-values are small enough when all of them were looked at.

Benjamini & Hochberg, "Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple Testing", JRSS B 57 (1995); valid
for positively dependent tests, such as several statistics of one column: Benjamini & Yekutieli, Annals of Statistics 29 (2001).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import Booleans, vector


def benjamini_hochberg(p_values: ArrayLike, level: float) -> Booleans:
    """Which of the p-values (k,) are discoveries, (k,): of those, no more than ``level`` are expected to be false. O(k log k).

    When nothing moved at all, the chance of any discovery is at most ``level``. NaN is no discovery and does not count as a test. Raises
    InvalidInput for a level outside (0, 1) or a p-value outside [0, 1].

    >>> benjamini_hochberg([0.001, 0.6, 0.02, 0.9], level=0.05).tolist()
    [True, False, True, False]
    >>> benjamini_hochberg([0.03, 0.6, 0.7, 0.9], level=0.05).tolist()
    [False, False, False, False]
    """
    if not 0 < level < 1:
        raise InvalidInput(f"level {level}", where="false_discovery", cure="use a number in (0, 1), such as 0.01")
    p = vector(p_values, "p-values")
    if ((p < 0) | (p > 1)).any():
        raise InvalidInput("a p-value is outside [0, 1]", where="false_discovery", cure="pass probabilities")
    ranked = np.sort(p)  # NaN comes last
    tests = int((~np.isnan(p)).sum())
    passed = np.flatnonzero(ranked[:tests] <= level * np.arange(1, tests + 1) / max(tests, 1))
    return p <= ranked[passed[-1]] if passed.size else np.zeros(p.size, np.bool_)
