"""Sketch: a window counted against the reference of the version that answered, of fixed size; sketches of parts of a window are added.

What the monitor judges. Made of rows (``sketch_of``), or read from what an earlier run counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ecluse.core.expression import Value
from ecluse.monitoring.drift.counts import ColumnCounts, added, count_values, is_missing
from ecluse.monitoring.window import Window
from ecluse.stats.reference import CategoryReference, FeatureReference, Reference

Columns = Mapping[str, ColumnCounts]
Segments = Mapping[str, Mapping[str, Mapping[str, FeatureReference]]]
"""Column -> value -> feature -> reference of the rows with that value."""


@dataclass(frozen=True)
class Sketch:
    """``rows`` predictions of one version between ``first`` and ``last`` (times; ``ends`` the ids there), ``fresh`` of them of rows it was not
    trained on, ``degraded`` made with features missing. ``columns`` counts the inputs, ``scores`` the fresh scores or answers, ``segments``
    the inputs of the rows with a value of a declared column.
    """

    model: str
    version: int
    rows: int = 0
    first: str = ""
    last: str = ""
    ends: tuple[str, str] = ("", "")
    fresh: int = 0
    degraded: int = 0
    columns: Columns = field(default_factory=dict)
    scores: ColumnCounts = field(default_factory=ColumnCounts)
    segments: Mapping[str, Mapping[str, Columns]] = field(default_factory=dict)


def sketch_of(window: Window, reference: Reference, segments: Segments | None = None) -> Sketch:
    """The sketch of a window's rows. Inputs the reference does not know are left out. O(rows × features).

    ``segments`` names the rows to count apart: those whose input has a value that some reference of a segment describes.
    """
    known = {name: window.inputs[name] for name in sorted(reference.features) if name in window.inputs}
    return Sketch(
        model=window.model,
        version=window.version,
        rows=window.rows,
        first=window.first,
        last=window.last,
        ends=window.ends,
        fresh=sum(window.fresh),
        degraded=window.degraded,
        columns={name: count_values(reference.features[name], values) for name, values in known.items()},
        scores=count_values(reference.score, _scores(reference, window)),
        segments={
            column: {value: _rows_of(window, column, value, each) for value, each in sorted(values.items())}
            for column, values in sorted((segments or {}).items())
            if column in window.inputs
        },
    )


def _scores(reference: Reference, window: Window) -> Sequence[Value]:
    """The fresh rows' scores, a multi-class model's answered classes.

    The reference holds validation scores; those of rows trained on would differ from them without any drift.
    """
    every: Sequence[Value] = window.answers if isinstance(reference.score, CategoryReference) else window.scores
    return [value for value, fresh in zip(every, window.fresh, strict=True) if fresh and value is not None]


def _rows_of(window: Window, column: str, value: str, references: Mapping[str, FeatureReference]) -> Columns:
    chosen = [place for place, each in enumerate(window.inputs[column]) if text_of(each) == value]
    found = {}
    for name, reference in sorted(references.items()):
        if name != column and name in window.inputs:
            values = window.inputs[name]
            found[name] = count_values(reference, [values[place] for place in chosen])
    return found


def text_of(value: Value) -> str:
    """A segment's name: the text of the value its rows share, as the gates name segments.

    >>> text_of(True), text_of("Gold"), text_of(2.0), text_of(2.5), text_of(None)
    ('true', 'Gold', '2', '2.5', 'missing')
    """
    if is_missing(value):
        return "missing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def together(parts: Sequence[Sketch]) -> Sketch:
    """The sketch of all parts of one version's window, given in the journal's order. Raises InvalidInput for parts counted over different bins."""
    some = [each for each in parts if each.rows]
    if not some:
        return parts[0]
    first = min(some, key=lambda each: each.first)
    last = max(reversed(some), key=lambda each: each.last)  # of several that end at once the one that was written last
    columns = sorted({column for each in some for column in each.segments})
    return Sketch(
        model=first.model,
        version=first.version,
        rows=sum(each.rows for each in some),
        first=first.first,
        last=last.last,
        ends=(first.ends[0], last.ends[1]),
        fresh=sum(each.fresh for each in some),
        degraded=sum(each.degraded for each in some),
        columns=_columns([each.columns for each in some]),
        scores=added(each.scores for each in some),
        segments={column: _segment([each.segments.get(column, {}) for each in some]) for column in columns},
    )


def _columns(parts: Sequence[Columns]) -> Columns:
    names = sorted({name for each in parts for name in each})
    return {name: added(each[name] for each in parts if name in each) for name in names}


def _segment(parts: Sequence[Mapping[str, Columns]]) -> Mapping[str, Columns]:
    values = sorted({value for each in parts for value in each})
    return {value: _columns([each[value] for each in parts if value in each]) for value in values}
