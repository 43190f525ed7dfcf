"""Tree: a decision tree as arrays, and Split: which values of its column one of its nodes sends left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tree:
    """One tree as parallel arrays over its nodes, node 0 the root; ``value`` counts at leaves, the rest elsewhere.

    A row goes left when ``x <= threshold``; at the nodes in ``sets``, when its category's flag is true: flags of [missing,
    unseen, category 0, 1, ...], those beyond the end are unseen.
    """

    feature: Ints
    threshold: npt.NDArray[np.floating]
    left: Ints
    right: Ints
    leaf: Bools
    missing_left: Bools
    value: npt.NDArray[np.floating]
    sets: Mapping[int, Bools] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """A split of column ``column``: the number line is cut up, and piece i goes left where ``left[i]``; NaN where ``missing``.

    Piece i reaches from ``cuts[i - 1]`` (excluded) to ``cuts[i]`` (included), the last to infinity. ``whole``: of a piece
    that ends in a cut, only that cut occurs.
    """

    column: int
    cuts: tuple[float, ...]
    left: tuple[bool, ...]
    missing: bool
    whole: bool = False
