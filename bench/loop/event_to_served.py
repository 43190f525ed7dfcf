"""From a drift event to the first caller answered by the new version: the whole circle, set up anew each round; the median is printed.

    .venv/bin/python -m bench.loop.event_to_served [--rounds 3] [--json]

On the reference tables where they are (ECLUSE_STREAMFLOW names their folder), else on the churn template's generator. Between the two moments
lie: the decision, two trainings in processes of their own (the second proves that the same bundle comes out again), gates against the
champion on the same rows, promotion, publication, and the swap in a server under traffic. CPU seconds are those of all processes but the server.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.acceptance.circle import MODEL, Circle, churn_template, streamflow
from tests.streamflow import streamflow_dir

PHASES = ("run.finished", "version.gated", "version.promoted")


@contextmanager
def _circle(root: Path) -> Iterator[Circle]:
    with streamflow(root) if streamflow_dir() is not None else churn_template(root) as circle:
        yield circle


def _cpu() -> float:
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def measure() -> dict[str, float]:
    """One round: seconds from the event to its facts in the ledger and to the first answer of the new version, and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder, _circle(Path(folder) / "project") as circle:
        assert circle.report.event is not None, circle.report.verdict
        cpu, wall = _cpu(), time.time()
        rows, began = circle.react()
        champion = circle.app.world.state.rollout(MODEL).champion
        assert champion == 2, [row.event.reason for row in rows]
        served = circle.wait_for(champion) - began
        counts = circle.traffic.stop()
        assert counts.failed == 0, counts.codes
        cpu = _cpu() - cpu
        stamps = {row.event.kind: row.event.recorded.timestamp() - wall for row in rows if row.event.recorded}
        return {"served_seconds": served, "cpu_seconds": cpu} | {kind: stamps[kind] for kind in PHASES}


def main() -> None:
    """Rounds, and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ.pop("ECLUSE_STREAMFLOW", None)  # read by now, and no setting of a project
    os.environ |= {"ECLUSE_GATES__FLOOR": "{ roc_auc = 0.60 }", "ECLUSE_MLFLOW__ENABLED": "false"}
    tables = "the reference tables" if streamflow_dir() is not None else "the churn template"
    rounds = [measure() for _ in range(asked.rounds)]
    median = {name: round(statistics.median(one[name] for one in rounds), 2) for name in rounds[0]}
    if asked.json:
        print(json.dumps({"tables": tables, "median": median, "rounds": rounds}))
        return
    for number, one in enumerate(rounds, start=1):
        phases = ", ".join(f"{kind} {one[kind]:.2f} s" for kind in PHASES)
        print(f"round {number}: {phases}, served {one['served_seconds']:.2f} s; {one['cpu_seconds']:.2f} s of CPU")
    print(
        f"event -> new version answering, on {tables}: median {median['served_seconds']} s, {median['cpu_seconds']} s of CPU"
    )


if __name__ == "__main__":
    main()
