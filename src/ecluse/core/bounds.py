"""Bounds: how small and how large the numbers of ecluse.toml may be, by key.

One beyond them would mean "always" or "never" without a word, or fail in the middle of a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from operator import attrgetter

from ecluse.core.errors import DeclarationError
from ecluse.core.instants import format_duration

LEAST = {
    "training.seed": 0,
    "training.frame.rows": 1,
    "training.frame.positives": 0,
    "gates.non_regression.may_lose": 0,
    "gates.non_regression.must_gain": 0,
    "gates.non_regression.rounds": 1,
    "gates.max_gap": 0,
    "gates.leak": 0,
    "gates.segment_rows": 0,
    "gates.sanity.min_distinct": 0,
    "gates.sanity.max_psi": 0,
    "monitoring.last": 1,
    "monitoring.min_samples": 1,
    "monitoring.min_outcomes": 1,
    "monitoring.estimate_rows": 0,
    "monitoring.psi": 0,
    "monitoring.mean_shift": 0,
    "monitoring.jensen_shannon": 0,
    "monitoring.ks": 0,
    "monitoring.wasserstein": 0,
    "monitoring.cramers_v": 0,
    "monitoring.missing": 0,
    "monitoring.unseen": 0,
    "monitoring.prediction_psi": 0,
    "monitoring.target_shift": 0,
    "monitoring.variance": 0,
    "triggers.new_rows": 0,
    "triggers.new_share": 0,
    "triggers.compute_minutes": 0,
    "serving.port": 0,
    "serving.max_body_bytes": 1,
    "serving.max_in_flight": 1,
    "serving.max_waiting": 0,
    "serving.max_connections": 1,
    "serving.max_batch": 1,
    "serving.deadline_ms": 1,
    "serving.poll_ms": 1,
    "serving.drain_wait": 0,
    "serving.drain_seconds": 0,
    "serving.workers": 1,
    "retention.archived": 0,
    "retention.runs": 0,
    "retention.rollback": 0,
    "rollback.output_psi": 0,
}
ABOVE_ZERO = (
    "training.history",
    "training.validation",
    "gates.latency_ms",
    "gates.bundle_mb",
    "gates.valid_for",
    "monitoring.period",
    "triggers.every",
    "serving.header_seconds",
    "slo.latency_ms",
    "slo.freshness",
    "rollback.within",
)
SHARES = ("training.frame.missing", "threshold.value", "monitoring.drift_share", "monitoring.segment_share")
MOST_PORT = 65_535


def check_bounds(settings: object) -> None:
    """Raises DeclarationError for the first number out of its bounds, with key and cure. None is nothing given."""
    for key, value, cure in _beyond(settings):
        said = format_duration(value) if isinstance(value, timedelta) else value
        raise DeclarationError(f"`{key}` is {said}", cure=cure)


def _beyond(settings: object) -> Iterator[tuple[str, object, str]]:
    for key, least in LEAST.items():
        if (value := attrgetter(key)(settings)) is not None and value < least:
            yield key, value, f"give {least} or more"
    for key in ABOVE_ZERO:
        value = attrgetter(key)(settings)
        if value is not None and value <= (timedelta(0) if isinstance(value, timedelta) else 0):
            yield key, value, 'give a time, such as "1d"' if isinstance(value, timedelta) else "give more than 0"
    for key in SHARES:
        if not 0 <= (value := attrgetter(key)(settings)) <= 1:
            yield key, value, "give a share from 0 to 1"
    if (port := attrgetter("serving.port")(settings)) > MOST_PORT:
        yield "serving.port", port, f"give a port up to {MOST_PORT}, or 0 for any free one"
    low, high = attrgetter("gates.sanity.positive_rate")(settings)
    if not 0 <= low <= high <= 1:
        yield "gates.sanity.positive_rate", [low, high], "give two shares from 0 to 1, the smaller one first"
