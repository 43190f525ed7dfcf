"""A share of counted cases, and the least it surely is.

Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934): exact, so that
few cases are never taken for more than they are.
"""

from __future__ import annotations

from ecluse.core.errors import InvalidInput


def lower_bound(hits: int, cases: int, risk: float) -> float:
    """The share that ``hits`` of ``cases`` prove: a true share at or below it gives as many hits with probability ``risk`` at most. O(1).

    0.0 without a hit. Raises InvalidInput for counts that are none, or a risk outside (0, 1).

    >>> round(lower_bound(10, 50, 1e-6), 3), lower_bound(0, 50, 1e-6)
    (0.028, 0.0)
    """
    from scipy.special import betaincinv

    if not 0 <= hits <= cases or not 0 < risk < 1:
        raise InvalidInput(f"{hits} of {cases} at risk {risk}", where="proportion", cure="count hits among cases")
    return float(betaincinv(hits, cases - hits + 1, risk)) if hits else 0.0
