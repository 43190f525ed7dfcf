"""Passing: the last double at which a rising or falling column passes a threshold, found by asking the column.

Bisection between probes: a good guess saves most of its steps, a bad one costs a few. What is found does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ecluse.training.compile.tree import Bools, Doubles, Ints

Ask = Callable[[Sequence[Doubles]], Sequence[Doubles]]
"""The encoded values of the columns for given values of their columns of ``x``, an array each."""

_FAR = 2.0**60
_NEAR = (1 << 3, 1 << 32)  # doubles that a cut may be moved by rounding, and by rounding to single precision


def last_passing(ask: Ask, limits: Sequence[Doubles], rising: Sequence[bool]) -> list[Doubles]:
    """For each column and limit the last double that passes: whose value is up to the limit (rising), or above it (falling).

    -inf passes, inf does not. At most 72 questions, about ten where the column is a line.
    """
    sizes = [len(each) for each in limits]
    limit, up = np.concatenate(limits), np.repeat(rising, sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    low, high = (np.full(len(limit), end) for end in _keys(np.array([-np.inf, np.inf])))

    def probe(keys: Ints, which: Bools) -> None:
        which = which & (low < keys) & (keys < high)
        if not which.any():
            return
        parts = np.split(_doubles(keys[which]), np.cumsum(np.bincount(owner[which], minlength=len(sizes)))[:-1])
        passes = (np.concatenate(ask(parts)) <= limit[which]) == up[which]
        low[which] = np.where(passes, keys[which], low[which])
        high[which] = np.where(passes, high[which], keys[which])

    every = np.ones(len(limit), dtype=bool)
    for keys in _guesses(ask, limits):
        probe(keys, every)
    while (wide := low + 1 < high).any():  # their distance would not fit
        probe((low >> 1) + (high >> 1) + (low & high & 1), wide)
    return np.split(_doubles(low), np.cumsum(sizes)[:-1])


def _guesses(ask: Ask, limits: Sequence[Doubles]) -> list[Ints]:
    """Where to look first, best first: as if each column were a line, its numbers rounded to single precision or not."""
    with np.errstate(all="ignore"):
        told = ask([np.array([-_FAR, 0.0, _FAR])] * len(limits))
        lines = [
            (each - at) / ((end - start) / (2.0 * _FAR)) for each, (start, at, end) in zip(limits, told, strict=True)
        ]
        line = np.nan_to_num(np.concatenate(lines), posinf=0.0, neginf=0.0)
        single = line.astype(np.float32)
        single = np.where(single > line, np.nextafter(single, np.float32(-np.inf)), single)
        halves = (single.astype(np.float64) + np.nextafter(single, np.float32(np.inf))) / 2.0
    half, middle = _keys(np.nan_to_num(halves, posinf=0.0, neginf=0.0)), _keys(line)
    return [half, half + 1, half - 1, *(middle + step for near in _NEAR for step in (-near, near))]


def _keys(values: Doubles) -> Ints:
    """Doubles as integers in the same order."""
    bits = values.view(np.int64)
    return np.where(bits >= 0, bits, np.iinfo(np.int64).min - bits)


def _doubles(keys: Ints) -> Doubles:
    bits = np.where(keys >= 0, keys, np.iinfo(np.int64).min - keys)
    return bits.view(np.float64)
