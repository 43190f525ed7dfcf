"""The circle up to the drift event, with real parts: version 1 in Production, a server process, traffic, and a month that moved.

Shared by the acceptance tests and ``bench/loop/event_to_served.py``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from tests.streamflow import MONTHS, PROJECT, month_folder

from ecluse.app import App, init_project, open_app
from ecluse.core.event import LedgerRow
from ecluse.core.version import GateReport
from ecluse.demo.server import Server, free_port
from ecluse.demo.story import DRIFTED, STABLE, month_end
from ecluse.loop.monitor import MonitorReport
from ecluse.testing.load import Traffic

MODEL = "churn"
WATCHED = 2_000
RATE = 250.0


@dataclass
class Circle:
    """A running project whose monitor has just raised its event. ``seen`` holds the monotonic second of each version's first answer."""

    app: App
    server: Server
    traffic: Traffic
    report: MonitorReport
    seen: dict[int, float] = field(default_factory=dict)

    def react(self) -> tuple[list[LedgerRow], float]:
        """Let the loop handle the event; what it did, and the monotonic second at which it began."""
        began = time.monotonic()
        return list(self.app.react()), began

    def wait_for(self, version: int, *, seconds: float = 30.0) -> float:
        """The monotonic second at which a caller first got an answer of ``version``."""
        end = time.monotonic() + seconds
        while version not in self.seen and time.monotonic() < end:
            time.sleep(0.005)
        return self.seen[version]


def copy_streamflow(root: Path) -> App:
    """The reference tables' project in a folder of its own."""
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
    return open_app(root)


def first_version(app: App) -> GateReport:
    """Train, register, gate and promote version 1."""
    app.materialize()
    run = app.train(MODEL).run
    assert run is not None
    report = app.gate(MODEL, app.register(run.id, reason="the first").number)
    assert report.verdict.passed, [finding.why for finding in report.verdict.failed]
    app.promote(MODEL, report.version, reason="the first release")
    return report


@contextmanager
def drifted(app: App, months: Sequence[tuple[Path, datetime]], keys: Sequence[str]) -> Iterator[Circle]:
    """Serve version 1 to ``keys`` in turn, let the months arrive, and watch the last ``WATCHED`` answers until they make an event."""
    seen: dict[int, float] = {}

    def note(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        seen.setdefault(answer["version"], time.monotonic())

    server = Server.start(app, free_port())
    traffic = Traffic(server.url, [{"user_id": key} for key in keys], connections=2, rate=RATE, check=note)
    try:
        traffic.start()
        for folder, as_of in months:
            assert app.ingest(folder, as_of).passed
            app.materialize()  # each month: values older than their time to live are refused
        assert traffic.wait_for(traffic.counts.sent + int(1.1 * WATCHED))
        yield Circle(app, server, traffic, app.monitor(MODEL, last=WATCHED), seen)
    finally:
        traffic.stop()
        server.stop()


@contextmanager
def streamflow(root: Path) -> Iterator[Circle]:
    """The circle on the reference tables: trained on month 000, drifted by month 001. Skips the test where they are absent."""
    (first, january), (second, february) = MONTHS.items()
    folder = month_folder(first)
    app = copy_streamflow(root)
    assert app.ingest(folder, january).passed
    first_version(app)
    # As many callers as are watched, in turn: every window holds each of them once, whenever it is cut.
    users = pl.read_csv(folder / "users.csv")["user_id"].head(WATCHED)
    with drifted(app, [(month_folder(second), february)], users.to_list()) as circle:
        yield circle


def churn_project(root: Path, *, subscribers: int, months: int) -> App:
    """The churn template with generated months under ``data/``."""
    init_project(root, "churn")
    script = ["generate.py", "--from", STABLE[0], "--months", str(months), "--out", "data", "--drift-from", DRIFTED[0]]
    command = [sys.executable, *script, "--subscribers", str(subscribers)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=120)
    return open_app(root, profile="dev")


@contextmanager
def churn_template(root: Path, *, subscribers: int = 3_000) -> Iterator[Circle]:
    """The circle on the churn template's generated months."""
    app = churn_project(root, subscribers=subscribers, months=len(STABLE) + len(DRIFTED))
    for month in STABLE:
        assert app.ingest(root / "data" / month, month_end(month)).passed
    first_version(app)
    lasting = [
        set(pl.read_csv(root / "data" / month / "subscriptions.csv")["user_id"]) for month in (STABLE[-1], DRIFTED[-1])
    ]
    months = [(root / "data" / month, month_end(month)) for month in DRIFTED]
    with drifted(app, months, sorted(lasting[0] & lasting[1])) as circle:
        yield circle
