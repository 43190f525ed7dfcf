"""Who of several workers made how many predictions, from the metrics that any of them tells of all."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Mapping

from bench.serving.load import Target

HUNG_SECONDS = 1.5
"""A worker hangs its counters on the common board once a second."""
START_TRIES = 10
_READY = re.compile(r'ecluse_ready\{worker="(\w+)"\} 1\.0')
_MADE = re.compile(r'ecluse_journal_records_total\{(?=[^}]*kind="prediction")[^}]*worker="(\w+)"[^}]*\} ([\d.e+]+)')


def workers_of(target: Target, workers: int) -> dict[str, float]:
    """Predictions journaled so far by each worker, once so many are ready. Raises RuntimeError when they are not."""
    for _ in range(START_TRIES):
        time.sleep(HUNG_SECONDS)
        request = urllib.request.Request(f"http://127.0.0.1:{target.port}/metrics", headers=dict(target.headers))
        with urllib.request.urlopen(request, timeout=10) as answer:
            made = made_by(answer.read().decode())
        if len(made) == workers:
            return made
    raise RuntimeError(f"{len(made)} of {workers} workers are ready")


def made_by(text: str) -> dict[str, float]:
    """The counters in a Prometheus text, of workers that are ready.

    >>> made_by('''ecluse_journal_records_total{worker="w2",kind="prediction"} 3.0
    ... ecluse_journal_records_total{worker="w1",kind="prediction"} 0.0
    ... ecluse_ready{worker="w2"} 1.0
    ... ecluse_ready{worker="w1"} 0.0''')
    {'w2': 3.0}
    """
    ready = set(_READY.findall(text))
    return {worker: float(value) for worker, value in _MADE.findall(text) if worker in ready}


def shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Each worker's part of what was made between.

    >>> shares({"w1": 10.0, "w2": 0.0}, {"w1": 40.0, "w2": 10.0})
    {'w1': 0.75, 'w2': 0.25}
    """
    made = {worker: after[worker] - before.get(worker, 0.0) for worker in sorted(after)}
    return {worker: count / (sum(made.values()) or 1.0) for worker, count in made.items()}
