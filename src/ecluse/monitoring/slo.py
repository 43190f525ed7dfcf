"""Objectives and their error budgets, and the alerts that say when a budget burns too fast; named after what workers count.

Multi-window, multi-burn-rate alerts (Beyer et al., "The Site Reliability Workbook" (2018), ch. 5): a long window says that it matters, a short
one that it still goes on. Burning 14.4 times too fast spends a thirty-day budget in two days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ecluse.core.errors import DeclarationError
from ecluse.core.instants import format_duration
from ecluse.core.loop_settings import Slo
from ecluse.monitoring.exposition import Series

BOUNDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The bounds of the workers' histogram, in seconds: an objective between two of them could not be counted."""
_PREDICTS = ("predict", "batch", "invocations", "infer")
ROUTES = f'route=~".*/({"|".join(_PREDICTS)})"'
"""Requests for predictions: what is asked for health and metrics is no promise."""


@dataclass(frozen=True)
class Burn:
    """An alert: both windows burn ``factor`` times too fast. ``severity``: who is called."""

    factor: float
    long: timedelta
    short: timedelta
    severity: str


BURNS = (
    Burn(14.4, timedelta(hours=1), timedelta(minutes=5), "page"),
    Burn(6.0, timedelta(hours=6), timedelta(minutes=30), "page"),
    Burn(1.0, timedelta(days=3), timedelta(hours=6), "ticket"),
)


@dataclass(frozen=True)
class Objective:
    """``target`` is the share that must be good; ``bad`` the share that is not, as PromQL with places to fill: ``$window``; ``$only`` and
    ``$more`` (whose workers are meant), ``$own`` (which recorded series).
    """

    name: str
    target: float
    bad: str
    says: str

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return 1 - self.target


def objectives(slo: Slo) -> tuple[Objective, ...]:
    """The objectives of the settings. Raises DeclarationError for a latency between two bounds."""
    seconds = slo.latency_ms / 1_000
    if seconds not in BOUNDS:
        known = ", ".join(f"{1_000 * bound:g}" for bound in BOUNDS)
        raise DeclarationError(
            f"slo.latency_ms = {slo.latency_ms:g}", where="ecluse.toml", cure=f"choose among {known}"
        )
    total = f"sum(rate(ecluse_requests_total{{{ROUTES}$more}}[$window]))"
    failed = f'sum(rate(ecluse_requests_total{{{ROUTES},status=~"5.."$more}}[$window]))'
    answered = f'sum(rate(ecluse_request_seconds_count{{outcome="ok",{ROUTES}$more}}[$window]))'
    quick = f'sum(rate(ecluse_request_seconds_bucket{{outcome="ok",{ROUTES},le="{seconds}"$more}}[$window]))'
    found = [
        Objective(
            "availability",
            slo.availability,
            f"(({failed} or vector(0)) / {total})",
            f"{slo.availability:.4%} of the answers are no failure of the server",
        ),
        Objective(
            "latency",
            slo.latency_share,
            f"(1 - {quick} / {answered})",
            f"{slo.latency_share:.4%} of the answers take at most {slo.latency_ms:g} ms",
        ),
        Objective(
            "saturation",
            slo.time_share,
            "avg_over_time(ecluse:saturated$own[$window])",
            f"{slo.time_share:.4%} of the time at most {slo.saturation:.0%} of the places are taken",
        ),
    ]
    if slo.freshness is not None:
        said = f"{slo.time_share:.4%} of the time no view is older than {format_duration(slo.freshness)}"
        found.append(Objective("freshness", slo.time_share, "avg_over_time(ecluse:stale$own[$window])", said))
    return tuple(found)


def states(slo: Slo, places: int) -> Sequence[tuple[str, str]]:
    """What is true at a moment, 0 or 1, by name; ``places``: requests a worker answers at once. Objectives over time average it."""
    taken = f"(max(ecluse_requests_in_flight$only) / {places}) > bool {slo.saturation:g}"
    found = [("ecluse:saturated", taken)]
    if slo.freshness is not None:
        found.append(("ecluse:stale", f"max(ecluse_feature_age_seconds$only) > bool {slo.freshness.total_seconds():g}"))
    return found


def text_of(window: timedelta) -> str:
    """A window as PromQL writes it.

    >>> text_of(timedelta(hours=6)), text_of(timedelta(days=3)), text_of(timedelta(minutes=5))
    ('6h', '3d', '5m')
    """
    return format_duration(window)


@dataclass(frozen=True)
class Budget:
    """An objective against what was counted: of ``total`` (answers, workers or views) so many ``bad``; ``burn`` 1 is exactly the budget."""

    name: str
    target: float
    total: int
    bad: int

    @property
    def share(self) -> float:
        """The good share; 1 where nothing was asked."""
        return 1 - self.bad / self.total if self.total else 1.0

    @property
    def burn(self) -> float:
        """The bad share over the budget."""
        return (1 - self.share) / (1 - self.target)


def measure(slo: Slo, places: int, samples: Mapping[Series, float]) -> tuple[Budget, ...]:
    """The budgets by what workers show now: answers since their start; saturation and freshness as they are at this moment. O(samples)."""
    failed = total = slow = timed = 0.0
    busy, ages = [], []
    for (name, labels), value in samples.items():
        known = dict(labels)
        predicts = known.get("route", "").rpartition("/")[2] in _PREDICTS
        if name == "ecluse_requests_total" and predicts:
            total, failed = total + value, failed + value * (known.get("status", "") >= "500")
        elif name == "ecluse_request_seconds_count" and predicts and known.get("outcome") == "ok":
            timed, slow = timed + value, slow + value
        elif name == "ecluse_request_seconds_bucket" and predicts and known.get("outcome") == "ok":
            slow -= value * (float(known["le"]) == slo.latency_ms / 1_000)
        elif name == "ecluse_requests_in_flight":
            busy.append(value / places)
        elif name == "ecluse_feature_age_seconds":
            ages.append(value)
    found = [
        Budget("availability", slo.availability, int(total), int(failed)),
        Budget("latency", slo.latency_share, int(timed), int(slow)),
        Budget("saturation", slo.time_share, len(busy), sum(each > slo.saturation for each in busy)),
    ]
    if slo.freshness is not None:
        most = slo.freshness.total_seconds()
        found.append(Budget("freshness", slo.time_share, len(ages), sum(age > most for age in ages)))
    return tuple(found)
