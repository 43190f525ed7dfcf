"""What a worker counts, for Prometheus; the only importer of ``prometheus_client``. Every answer is counted, errors too."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The registry of one worker."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the text and nobody reads them
        self.registry = registry = CollectorRegistry()
        self._children: dict[tuple[str, str, str, int, str], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "ecluse_requests",
            "Requests to the data plane, by answer.",
            ("route", "model", "version", "status", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "ecluse_request_seconds",
            "From the first byte to the answer, errors too.",
            ("route", "outcome"),
            buckets=_BUCKETS,
            registry=registry,
        )
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
        self.journal_records = Counter(
            "ecluse_journal_records", "Records in the journal, by kind.", ("kind",), registry=registry
        )
        self.predictions_kept = self.journal_records.labels("prediction")
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
        if (found := self._children.get(names)) is None:  # two look-ups by label fewer a request
            counter = self._requests.labels(route, model, version, str(status), code)
            found = self._children[names] = counter, self._seconds.labels(route, "ok" if status < 400 else "error")
        found[0].inc()
        found[1].observe(seconds)

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)
