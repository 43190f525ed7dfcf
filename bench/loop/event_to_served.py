"""From a drift event to the first caller answered by the new version: the whole circle, set up anew each round; the median is printed.

    .venv/bin/python -m bench.loop.event_to_served [--up] [--rounds 3] [--json]

On the reference tables where they are (ECLUSE_STREAMFLOW names their folder), else on the churn template's generator. Between the two moments
lie: the decision, two trainings in processes of their own (the second proves that the same bundle comes out again), gates against the
champion on the same rows, promotion, publication, and the swap in a server under traffic. CPU seconds are those of all processes but the server.

Without ``--up`` the loop is started for the event; with it, it is the one that stays up (``ecluse up``), the drifted months are dropped into the
source folder, the time from the drop is told too, and CPU seconds are those of the loop and its trainings from the decision on: two trainings
side by side on two cores take half of theirs.
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

import polars as pl
from tests.acceptance.circle import (
    MODEL,
    RATE,
    WATCHED,
    Circle,
    churn_project,
    churn_template,
    copy_streamflow,
    streamflow,
)  # fmt: skip
from tests.acceptance.standing import Standing, drop, standing
from tests.streamflow import MONTHS, month_folder, streamflow_dir

from ecluse.demo.story import DRIFTED, STABLE, month_end
from ecluse.testing.load import Traffic

UNDER_UP = {
    "ECLUSE_SOURCES__MONTHS__DROPS": "incoming/*",
    "ECLUSE_SOURCES__MONTHS__AS_OF": "name",
    "ECLUSE_MONITORING__EVERY": "1s",
    "ECLUSE_MONITORING__LAST": str(WATCHED),
    "ECLUSE_MONITORING__MIN_SAMPLES": str(WATCHED),
}
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


def measure_up() -> dict[str, float]:
    """One round under ``ecluse up``: seconds from the event, and from the drop before it, to the first answer of the new version."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        months, drifted, keys = _arriving(root)
        with standing(root, UNDER_UP) as up:
            for source, name in months:
                drop(root / "incoming", source, name)
            up.wait("what is known", lambda: len(up.rows("source.taken")) == len(months), 120)
            up.app.train(MODEL)
            up.wait("version 1", lambda: up.serving(MODEL) == 1)
            seen: dict[int, float] = {}
            traffic = Traffic(
                up.url,
                [{"user_id": key} for key in keys],
                connections=2,
                rate=RATE,
                check=lambda body, answer: seen.setdefault(answer["version"], time.time()) and None,
            )
            with traffic:
                traffic.wait_for(WATCHED)
                dropped, before = time.time(), up.rows()[-1].sequence
                for source, name in drifted:
                    drop(root / "incoming", source, name)
                up.wait("a decision", lambda: _retrained(up, before), 180)
                cpu = up.cpu("ecluse.resident")
                up.wait("a newer version", lambda: max(seen, default=1) > 1, 180)
                cpu = up.cpu("ecluse.resident") - cpu
                counts = traffic.stop()
            assert counts.failed == 0, counts.codes
            newest = max(seen)
            begun, stamps = _chain(up, newest)
        return {
            "served_seconds": seen[newest] - begun,
            "drop_to_served_seconds": seen[newest] - dropped,
            "cpu_seconds": cpu,
        } | stamps


def _retrained(up: Standing, after: int) -> bool:
    decided = (row for row in up.rows("loop.decided") if row.sequence > after)
    return any(row.event.evidence["command"] == "Retrain" for row in decided)


def _arriving(root: Path) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]], list[str]]:
    """A project and its months as they will be called in the source folder: the known ones, the drifted ones, and who will call."""
    if streamflow_dir() is not None:
        copy_streamflow(root)
        months = [(month_folder(name), as_of.date().isoformat()) for name, as_of in MONTHS.items()]
        return months[:1], months[1:], pl.read_csv(months[0][0] / "users.csv")["user_id"].head(WATCHED).to_list()
    churn_project(root, subscribers=7_000, months=len(STABLE) + len(DRIFTED))
    named = [(root / "data" / name, month_end(name).date().isoformat()) for name in (*STABLE, *DRIFTED[:2])]
    users = [
        set(pl.read_csv(folder / "subscriptions.csv")["user_id"]) for folder, _ in (named[len(STABLE) - 1], named[-1])
    ]
    return named[: len(STABLE)], named[len(STABLE) :], sorted(users[0] & users[1])


def _chain(up: Standing, version: int) -> tuple[float, dict[str, float]]:
    """When the event that led to a version was recorded (Unix time), and the facts on the way, seconds after it."""
    [promoted] = [row for row in up.rows("version.promoted") if row.event.version == version]
    chain = [row for row in up.rows() if row.event.actor == promoted.event.actor]
    [event] = [row for row in up.rows() if promoted.event.actor == f"loop, event {row.sequence}"]
    assert event.event.recorded is not None
    begun = event.event.recorded.timestamp()
    stamps = {row.event.kind: row.event.recorded.timestamp() - begun for row in chain if row.event.recorded is not None}
    return begun, {kind: stamps[kind] for kind in PHASES}


def main() -> None:
    """Rounds, and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--up", action="store_true", help="by the loop that stays up")
    asked = parser.parse_args()
    os.environ.pop("ECLUSE_STREAMFLOW", None)  # read by now, and no setting of a project
    os.environ |= {"ECLUSE_GATES__FLOOR": "{ roc_auc = 0.60 }", "ECLUSE_MLFLOW__ENABLED": "false"}
    tables = "the reference tables" if streamflow_dir() is not None else "the churn template"
    rounds = [measure_up() if asked.up else measure() for _ in range(asked.rounds)]
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
