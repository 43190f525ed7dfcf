"""Segment floors: what a metric over everybody hides. Judged per value of each declared column, where there are rows enough to judge.

A segment with fewer than ``segment_rows`` rows, or where the metric is undefined (nobody left), does not block: it is passed over, and
the finding says so with the numbers. A limit on a handful of rows would refuse good models by chance.
"""

from __future__ import annotations

import numpy as np

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome, at_least, at_most
from ecluse.gates.evidence import Evidence
from ecluse.gates.measured import measured, metric_named, names_of

CHECK = "segment_floor"


def check_slices(evidence: Evidence, gates: Gates) -> list[Finding]:
    """A finding per judged segment and metric, and one per column that names what was passed over. Raises DeclarationError."""
    found: list[Finding] = []
    for column, values in sorted(evidence.segments.items()):
        names, counts = np.unique(values, return_counts=True)
        judged = names[counts >= gates.segment_rows]
        undefined: list[str] = []
        for name, limit in sorted(gates.segment_floor.items()):
            metric = metric_named(evidence.task, name, "gates.segment_floor")
            compare = at_least if metric.greater_is_better else at_most
            for value in judged:
                worth = measured(evidence, metric, "gates.segment_floor", values == value)
                if np.isnan(worth):
                    undefined.append(f"{column}={value} ({name} is undefined)")
                else:
                    found.append(compare(CHECK, worth, limit, subject=f"{column}={value}: {name}"))
        small = [
            f"{column}={name} ({count})"
            for name, count in zip(names, counts, strict=True)
            if count < gates.segment_rows
        ]
        if small:
            why = f"too few rows to judge (less than {gates.segment_rows}): {names_of(small)}"
            found.append(Finding(CHECK, Outcome.PASSED, why, None, gates.segment_rows, column))
        if undefined:
            found.append(Finding(CHECK, Outcome.PASSED, f"not judged: {names_of(undefined)}", None, None, column))
    if not gates.segment_floor or not evidence.segments:
        found.append(Finding(CHECK, Outcome.PASSED, "no segment floor is declared"))
    return found
