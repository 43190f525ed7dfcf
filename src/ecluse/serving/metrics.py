"""What a worker counts, for Prometheus; the only importer of ``prometheus_client``. Every answer is counted, errors too."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tallies
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(slots=True)
class _Tally:
    """Answers alike: how many, their seconds, and how many of them in each bucket (the last: beyond all)."""

    count: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))


class _Requests(Collector):
    """What each request adds to: kept as numbers of one event loop (0.4 us a request), made into metrics when somebody asks.

    The library's own counters take a lock for each of four numbers (3.4 us).
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str, str, int, str], _Tally] = {}
        self.kept = Tallies[str](prediction=0)

    def collect(self) -> Iterator[Metric]:
        """Requests by answer, their durations by route and outcome, records by kind."""
        names = ("route", "model", "version", "status", "code")
        requests = CounterMetricFamily("ecluse_requests", "Requests to the data plane, by answer.", labels=names)
        seconds: dict[tuple[str, str], _Tally] = {}
        for (route, model, version, status, code), tally in sorted(self.answers.items()):
            requests.add_metric((route, model, version, str(status), code), tally.count)
            total = seconds.setdefault((route, "ok" if status < 400 else "error"), _Tally())
            total.seconds += tally.seconds
            total.buckets = [sum(both) for both in zip(total.buckets, tally.buckets, strict=True)]
        yield requests
        what = "From the head of the request to its answer, errors too."
        durations = HistogramMetricFamily("ecluse_request_seconds", what, labels=("route", "outcome"))
        for labels, tally in seconds.items():
            durations.add_metric(labels, _cumulated(tally.buckets), tally.seconds)
        yield durations
        records = CounterMetricFamily("ecluse_journal_records", "Records in the journal, by kind.", labels=("kind",))
        for kind, count in self.kept.items():
            records.add_metric((kind,), count)
        yield records


class Metrics:
    """The registry of one worker."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the text and nobody reads them
        self.registry = registry = CollectorRegistry()
        self._answered = _Requests()
        self.kept = self._answered.kept
        registry.register(self._answered)
        self.in_flight = Gauge("ecluse_requests_in_flight", "Requests being answered.", registry=registry)
        self.waiting = Gauge("ecluse_requests_waiting", "Requests waiting for a place.", registry=registry)
        self.generation = Gauge("ecluse_document_generation", "Generation of the document followed.", registry=registry)
        self.document_refused = Gauge(
            "ecluse_document_refused", "1 while the document last seen is refused.", registry=registry
        )
        self.champion = Gauge(
            "ecluse_champion_version", "Version that answers, by model.", ("model",), registry=registry
        )
        self.load_failures = Gauge(
            "ecluse_versions_not_loaded", "Versions the document wants that could not be loaded.", registry=registry
        )
        self.ready = Gauge("ecluse_ready", "1 while /ready says yes.", registry=registry)
        self.online_answers = Gauge("ecluse_online_answers", "1 while the online store answers.", registry=registry)
        self.feature_age = Gauge(
            "ecluse_feature_age_seconds", "Project time since a view was materialized.", ("view",), registry=registry
        )
        self.journal_writable = Gauge(
            "ecluse_journal_writable", "1 while the journal can be written.", registry=registry
        )
        self.unseen = Counter(
            "ecluse_unseen_values",
            "Inputs with a value never seen in training.",
            ("model", "feature"),
            registry=registry,
        )
        self.degraded = Counter(
            "ecluse_degraded_predictions",
            "Answers made with missing features, as declared.",
            ("model",),
            registry=registry,
        )

    def count(self, route: str, model: str, version: str, status: int, code: str, seconds: float) -> None:
        """One answered request. ``code`` is "ok" or the problem's; ``model`` and ``version`` are ours, never the caller's text."""
        names = (route, model, version, status, code)
        if (tally := self._answered.answers.get(names)) is None:
            tally = self._answered.answers[names] = _Tally()
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(_BUCKETS, seconds)] += 1

    def note(self, model: str, record: Mapping[str, Any]) -> None:
        """What a prediction had to do with: values never seen in training, views that were missing."""
        for feature in record["unseen"]:
            self.unseen.labels(model, feature).inc()
        if record["degraded"]:
            self.degraded.labels(model).inc()

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    total, found = 0, []
    for bound, count in zip((*map(str, _BUCKETS), "+Inf"), buckets, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
