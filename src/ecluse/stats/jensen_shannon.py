"""Jensen-Shannon distance of two count vectors: a bounded, symmetric, true metric between distributions.

Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37 (1991); its root is a metric:
Endres & Schindelin, IEEE Trans. Inf. Theory 49 (2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import NAN, Floats, counts_pair


def jensen_shannon(reference: ArrayLike, current: ArrayLike, *, pseudo: float = 0.5) -> float:
    """Distance in [0, 1] (root of the base-2 divergence), from counts (k,) over the same bins.

    ``pseudo`` is added to every count (0.5 = Jeffreys' prior), as for PSI: the distance is finite without it, but
    then a rare category that merely was not drawn counts as fully gone. 0 gives the plain distance. NaN when a side is
    empty.

    >>> jensen_shannon([5, 5], [5, 5]), jensen_shannon([9, 0], [0, 9], pseudo=0)
    (0.0, 1.0)
    """
    if pseudo < 0:
        raise InvalidInput(f"pseudo count {pseudo}", where="jensen_shannon", cure="use 0 or more, 0.5 by default")
    r, c = counts_pair(reference, current)
    if not r.sum() or not c.sum():
        return NAN
    r, c = (r + pseudo) / (r + pseudo).sum(), (c + pseudo) / (c + pseudo).sum()
    middle = (r + c) / 2
    divergence = (_relative_entropy(r, middle) + _relative_entropy(c, middle)) / 2
    # Rounding may leave -1e-17 or 1 + 1e-16.
    return float(np.sqrt(min(max(divergence, 0.0), 1.0)))


def _relative_entropy(p: Floats, q: Floats) -> float:
    """Kullback-Leibler divergence in bits; a bin that p does not use adds nothing."""
    used = p > 0
    return float((p[used] * np.log2(p[used] / q[used])).sum())
