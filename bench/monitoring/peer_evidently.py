"""Evidently's drift preset over the same rows; run in an environment of its own, prints seconds and what it found as JSON.

    python peer_evidently.py lines|parquet|columns reference.csv FILE ROUNDS

``lines`` and ``parquet`` begin where Écluse begins, with the records (``ecluse journal export``): reading them and making columns of their inputs is
timed (``read``), then the report (``report``). ``columns`` are read before the clock starts.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

CHUNK = 50_000


def from_lines(path: str) -> pd.DataFrame:
    """The inputs of records as JSON lines. The standard library's parser and frames of 50,000: quicker than ``read_json`` and ``json_normalize``."""
    with Path(path).open("rb") as file:
        return _flat(json.loads(line)["inputs"] for line in file)


def from_parquet(path: str) -> pd.DataFrame:
    """The inputs of records in Parquet, where they are JSON in a column of text."""
    return _flat(map(json.loads, pd.read_parquet(path, columns=["inputs"])["inputs"]))


def _flat(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    def frames(left: Iterator[dict[str, object]]) -> Iterator[pd.DataFrame]:
        while some := list(islice(left, CHUNK)):
            yield pd.DataFrame(some)

    return pd.concat(frames(iter(rows)), ignore_index=True)


def main() -> None:
    """Each round reads and reports; the second has nothing to import."""
    source, reference, given = sys.argv[1], pd.read_csv(sys.argv[2]), sys.argv[3]
    held = pd.read_csv(given) if source == "columns" else None
    found: dict[str, list[float]] = {"read": [], "read_cpu": [], "report": [], "report_cpu": []}

    def noted(name: str, began: float, spent: float) -> None:
        found[name].append(time.perf_counter() - began)
        found[f"{name}_cpu"].append(time.process_time() - spent)

    for _ in range(int(sys.argv[4])):
        began, spent = time.perf_counter(), time.process_time()
        current = held if held is not None else from_lines(given) if source == "lines" else from_parquet(given)
        noted("read", began, spent)
        began, spent = time.perf_counter(), time.process_time()
        told = Report([DataDriftPreset()]).run(current, reference).dict()
        noted("report", began, spent)
        rows, drifted = len(current), told["metrics"][0]["value"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**found, "drifted": drifted, "rows": rows, "peak_mb": peak}))


if __name__ == "__main__":
    main()
