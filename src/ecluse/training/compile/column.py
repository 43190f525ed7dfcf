"""Column: one column on its way through the encoders, and the column of ``x`` it was made from.

A column is a number, or one of a known set of values (a *domain*: the words of a text column, or the distinct numbers an
encoder was fitted on), coded as its position, -1 for a value that is not in the domain and NaN where it is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Domain = tuple[object, ...]


@dataclass(frozen=True)
class Source:
    """Says that a column is a function of column ``index`` of ``x`` alone.

    Without ``cuts`` the function rises or falls over all numbers. With ``cuts``, rising, it is constant up to the first cut,
    between each cut (excluded) and the next (included), and beyond the last. ``whole``: only the cuts themselves and the
    next whole number occur. Of NaN it may make anything.

    >>> Source.words(0, 2)
    Source(index=0, cuts=(-1.0, 0.0, 1.0), whole=True)
    """

    index: int
    cuts: tuple[float, ...] | None = None
    whole: bool = False

    @classmethod
    def words(cls, index: int, count: int) -> Self:
        """Codes of words: -1 (unseen), 0 to ``count`` - 1."""
        return cls(index, tuple(float(code) for code in range(-1, count)), whole=True)

    @classmethod
    def points(cls, index: int, values: npt.ArrayLike) -> Self:
        """A function that knows some numbers and answers the same for all others."""
        ordered = np.unique(np.asarray(values, dtype=np.float64))
        edges = np.unique(np.concatenate([np.nextafter(ordered, -np.inf), ordered]))
        return cls(index, tuple(edges.tolist()))


@dataclass(frozen=True)
class Column:
    """Column ``index`` of a double tensor; ``domain`` is None for a number, ``source`` None where it reads several of ``x``."""

    tensor: str
    index: int
    name: str
    domain: Domain | None = None
    source: Source | None = None


Columns = tuple[Column, ...]
