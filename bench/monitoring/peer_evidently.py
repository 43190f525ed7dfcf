"""Evidently's drift preset over two parquet files; run in an environment of its own, prints seconds and what it found as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def main() -> None:
    """Read both frames (not timed), then the report, twice: the second call has nothing to import."""
    reference, current = (pd.read_csv(path) for path in sys.argv[1:3])
    seconds, cpu = [], []
    for _ in range(int(sys.argv[3])):
        began, spent = time.perf_counter(), time.process_time()
        found = Report([DataDriftPreset()]).run(current, reference).dict()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    drifted = found["metrics"][0]["value"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "drifted": drifted, "rows": len(current), "peak_mb": peak}))


if __name__ == "__main__":
    main()
