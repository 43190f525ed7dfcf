"""Bars: how each column was distributed in training and is in the window, share by share, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

from ecluse.monitoring.drift.counts import ColumnCounts, coarse
from ecluse.monitoring.sketch import Sketch
from ecluse.stats.reference import FeatureReference, NumberReference, Reference

MOST = 20


@dataclass(frozen=True)
class Bars:
    """``labels`` (k): the upper bound of a number's bin, or a category; ``reference`` and ``window`` (k): shares of the values that are there."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


def bars_of(reference: Reference, sketch: Sketch) -> dict[str, Bars]:
    """The bars of every input counted, and of the scores as ``"score"`` where some were fresh."""
    found = {
        name: bars(known, sketch.columns[name])
        for name, known in sorted(reference.features.items())
        if name in sketch.columns
    }
    return found | ({"score": bars(reference.score, sketch.scores)} if sketch.scores.rows else {})


def bars(reference: FeatureReference, counts: ColumnCounts) -> Bars:
    """One column's.

    >>> from ecluse.monitoring.drift.counts import count_values
    >>> from ecluse.stats.reference import describe_column
    >>> plans = describe_column(["a", "a", "b", "b"], "category")
    >>> bars(plans, count_values(plans, ["a", "c"]))
    Bars(labels=('a', 'b', 'others'), reference=(0.5, 0.5, 0.0), window=(0.5, 0.0, 0.5))
    """
    if isinstance(reference, NumberReference):
        labels = [f"{edge:.4g}" for edge in reference.edges]
        before, now = (
            list(reference.counts),
            coarse(reference, counts.bins) if counts.bins else [0] * len(reference.counts),
        )
        labels.append(f"> {labels[-1]}" if labels else "all")
    else:
        labels = sorted(reference.counts, key=lambda name: -reference.counts[name])[:MOST]
        before, now = [reference.counts[name] for name in labels], [counts.categories.get(name, 0) for name in labels]
        rest = sum(reference.counts.values()) - sum(before), sum(counts.categories.values()) + counts.unseen - sum(now)
        if any(rest):
            labels, before, now = [*labels, "others"], [*before, rest[0]], [*now, rest[1]]
    return Bars(tuple(labels), _shares(before), _shares(now))


def _shares(counts: list[int]) -> tuple[float, ...]:
    total = max(sum(counts), 1)
    return tuple(round(each / total, 5) for each in counts)
