"""What a version costs to serve: the time to score one row, and the size of its bundle."""

from __future__ import annotations

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, at_most
from ecluse.gates.evidence import Evidence

LATENCY, SIZE = "latency", "bundle_size"
MEGABYTE = 1_000_000


def check_cost(evidence: Evidence, gates: Gates) -> list[Finding]:
    """Two findings: scoring one row in milliseconds (99th percentile over rows), and the bundle in megabytes (10⁶ bytes)."""
    return [
        at_most(
            LATENCY, evidence.latency_ms, gates.latency_ms, subject="scoring one row (99th percentile)", unit=" ms"
        ),
        at_most(SIZE, evidence.bundle_bytes / MEGABYTE, gates.bundle_mb, subject="bundle", unit=" MB"),
    ]
