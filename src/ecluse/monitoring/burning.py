"""Burning: whether an error budget burns too fast, by what was counted over the windows of the alerts. Pure: tallies in, an answer out.

The same windows and factors as the alert rules (``slo.py``), and the same proof as for a release (``released.py``): the share counted must be
beyond its limit with a risk of one in a million, however often it is looked at.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ecluse.core.instants import format_duration
from ecluse.monitoring.released import RISK
from ecluse.monitoring.slo import BURNS, Burn
from ecluse.stats.proportion import lower_bound

MARK_SECONDS = 60.0
"""One tally a minute is kept, for as long as the longest window."""
_LONGEST = max(burn.long for burn in BURNS).total_seconds()


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers counted up to a moment (``at``, seconds that only grow), and how many of them were outside the objective."""

    at: float
    total: int = 0
    bad: int = 0


@dataclass(frozen=True)
class Burning:
    """An alert's windows, and what was counted in the long one."""

    burn: Burn
    rate: float
    total: int
    bad: int

    @property
    def why(self) -> str:
        """For people."""
        said = f"its error budget burns {self.rate:.1f} times too fast"
        return (
            f"{said}: {self.bad:,} of {self.total:,} answers within {format_duration(self.burn.long)} were outside it"
        )


def noted(tallies: Sequence[Tally], now: Tally) -> list[Tally]:
    """The tallies with one more, which takes the place of the last while that is less than a minute from the one before.

    >>> marks = noted(noted(noted([Tally(0)], Tally(5, 5)), Tally(59, 9)), Tally(61, 12))
    >>> [each.at for each in marks]
    [0, 61]
    """
    kept = list(tallies)
    if len(kept) > 1 and kept[-1].at - kept[-2].at < MARK_SECONDS:
        kept.pop()
    kept.append(now)
    first = max(bisect_right(kept, now.at - _LONGEST, key=lambda each: each.at) - 1, 0)
    return kept[first:]


def burning(tallies: Sequence[Tally], target: float, least: int) -> Burning | None:
    """The first alert whose two windows both burn too fast; None when none does, or fewer than ``least`` answers were counted.

    ``target`` is the share that must be good. A window longer than what was counted is judged by all that was. O(log n).

    >>> burning([Tally(0), Tally(30, 200, 40)], 0.999, 50).burn.severity
    'page'
    """
    for burn in BURNS:
        long, short = (_within(tallies, window.total_seconds()) for window in (burn.long, burn.short))
        if long.total >= least and all(_proven(each) > burn.factor * (1 - target) for each in (long, short)):
            return Burning(burn, long.bad / long.total / (1 - target), long.total, long.bad)
    return None


def _within(tallies: Sequence[Tally], seconds: float) -> Tally:
    """What was counted within so many seconds before the newest tally."""
    now = tallies[-1]
    before = tallies[max(bisect_right(tallies, now.at - seconds, key=lambda each: each.at) - 1, 0)]
    return Tally(now.at, now.total - before.total, now.bad - before.bad)


def _proven(counted: Tally) -> float:
    return lower_bound(counted.bad, counted.total, RISK)
