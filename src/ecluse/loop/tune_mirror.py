"""Searches in the tracking mirror: those the ledger tells of behind a remembered row, each with its trials."""

from __future__ import annotations

from ecluse.core.codec import from_plain
from ecluse.core.ports import State
from ecluse.core.tuning import Tuning, TuningTracker

MARK = "mirror.tuning"
KIND = "tuning.finished"


def mirror_tunings(state: State, tracker: TuningTracker, *, anew: bool = False) -> int:
    """Show what was searched since last time (``anew``: ever); returns how many searches. Linear in the rows since. Raises as the tracker."""
    mark = 0 if anew else int(state.meta(MARK) or 0)
    rows = list(state.ledger(after=mark))
    told = [row.event.evidence["tuning"] for row in rows if row.event.kind == KIND]
    newest = {each["study"]: each for each in told}  # a resumed search is told again, whole
    for each in newest.values():
        tracker.mirror_tuning(from_plain(Tuning, each, where=KIND))
    if rows and (newest or mark == 0):
        state.set_meta(MARK, str(rows[-1].sequence))
    return len(newest)
