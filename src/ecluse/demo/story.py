"""The demo's story: the whole loop once, with real parts. Data → v1 → traffic → drift → v2 under traffic → refusal → rollback → ledger.

Everything happens through the App and over HTTP, as a user would do it; the summary is what ``demo-summary.json`` holds.
"""

from __future__ import annotations

import calendar
import csv
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecluse.app import App, init_project, open_app
from ecluse.core.codec import to_plain
from ecluse.core.errors import Conflict, EcluseError
from ecluse.core.event import sentence
from ecluse.core.version import GateReport
from ecluse.demo.narrator import Narrator, Say
from ecluse.demo.server import Server, free_port
from ecluse.testing.load import Traffic

MODEL = "churn"
MARKER = ".ecluse-demo"
STABLE = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05")
DRIFTED = ("2024-06", "2024-07", "2024-08")
REQUESTS_PER_SECOND = 150
WATCHED = 1_000
LEAST_REQUESTS = 1_000


def tell(folder: Path, *, port: int, subscribers: int, say: Say) -> dict[str, Any]:
    """Tell the story in ``folder`` (made anew) and return its summary. A step that fails ends the story; the summary says so.

    Raises Conflict when the folder holds anything but an earlier demo.
    """
    _clear(folder)
    narrator = Narrator(say)
    told = _Told(narrator)
    say("Écluse: the loop, once around. Everything below is real: files, databases, a server process, HTTP traffic.")
    try:
        app = _project(narrator, folder, subscribers)
        _first_version(narrator, told, app)
        with _serving(narrator, app, port or free_port()) as (server, traffic):
            _drift(narrator, told, app, traffic)
            _retrain(narrator, told, app, server)
            _refuse(narrator, told, app)
            _roll_back(narrator, told, app, server)
            told.requests = _stop(narrator, traffic)
        _look_back(narrator, told, app)
    except (EcluseError, AssertionError, subprocess.SubprocessError, OSError) as error:
        say(f"\nthe story ended early: {error}")
    return told.summary()


class _Told:
    """What the summary needs, gathered on the way."""

    def __init__(self, narrator: Narrator) -> None:
        self.narrator = narrator
        self.versions: list[dict[str, Any]] = []
        self.verdicts: list[dict[str, Any]] = []
        self.decisions: list[dict[str, Any]] = []
        self.requests = {"sent": 0, "failed": 0}
        self.drift: dict[str, Any] = {}
        self.rollback_seconds: float | None = None

    def verdict(self, report: GateReport) -> None:
        """Remember a gate report."""
        findings = [to_plain(finding) for finding in report.verdict.findings]
        self.verdicts.append({"version": report.version, "passed": report.verdict.passed, "findings": findings})

    def summary(self) -> dict[str, Any]:
        """The shape of ``demo-summary.json``."""
        return {
            "steps": self.narrator.steps,
            "versions": self.versions,
            "verdicts": self.verdicts,
            "decisions": self.decisions,
            "requests": self.requests,
            "drift": self.drift,
            "rollback_seconds": self.rollback_seconds,
            "total_seconds": self.narrator.seconds,
        }


def _project(narrator: Narrator, folder: Path, subscribers: int) -> App:
    with narrator.step("a project", "`ecluse init`: declaration, settings, generator, tests, lock, Git repository"):
        written, notes = init_project(folder, "churn")
        (folder / MARKER).write_text("made by `ecluse demo`; made anew on every run\n", encoding="utf-8")
        narrator.tell(f"{len(written)} files in {folder}" + "".join(f"\n{note}" for note in notes))
        app = open_app(folder, profile="dev")
    months = len(STABLE) + len(DRIFTED)
    with narrator.step(
        "data", f"{subscribers:,} subscribers over {months} months; from {DRIFTED[0]} on the world is another"
    ):
        _generate(app, months, subscribers)
        for month in STABLE:
            _ingest(narrator, app, month)
    with narrator.step("features", "the online store is brought up to now"):
        result = app.materialize()
        narrator.tell(", ".join(f"{each.view}: {each.written:,}" for each in result.views))
    return app


def _clear(folder: Path) -> None:
    if not folder.exists():
        return
    if not (folder / MARKER).exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty and not a demo", cure="choose another with --folder")
    shutil.rmtree(folder)


def _generate(app: App, months: int, subscribers: int) -> None:
    script = ["generate.py", "--from", STABLE[0], "--months", str(months), "--out", "data", "--drift-from", DRIFTED[0]]
    command = [sys.executable, *script, "--subscribers", str(subscribers)]
    done = subprocess.run(command, cwd=app.root, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise AssertionError(f"generate.py failed: {done.stderr[-500:]}")


def _ingest(narrator: Narrator, app: App, month: str) -> None:
    result = app.ingest(app.root / "data" / month, month_end(month))
    rows = sum(table.rows for table in result.tables)
    bad = sum(table.quarantined for table in result.tables)
    narrator.require(result.passed, f"{month}: {rows:,} rows in {len(result.tables)} tables, {bad} in quarantine")


def month_end(month: str) -> datetime:
    """The last day of ``2024-01``, 00:00 UTC.

    >>> month_end("2024-02").isoformat()
    '2024-02-29T00:00:00+00:00'
    """
    year, number = map(int, month.split("-"))
    return datetime(year, number, calendar.monthrange(year, number)[1], tzinfo=UTC)


def _first_version(narrator: Narrator, told: _Told, app: App) -> None:
    with narrator.step("version 1", "trained on what was known, judged by its gates, released by hand"):
        trained = app.train(MODEL)
        assert trained.run is not None
        version = app.register(trained.run.id, reason="the first model")
        report = app.gate(MODEL, version.number)
        told.verdict(report)
        told.versions.append(_version(app, version.number))
        narrator.tell(_metrics(told.versions[-1]))
        passed = sum(finding.passed for finding in report.verdict.findings)
        narrator.require(report.verdict.passed, f"{passed} of {len(report.verdict.findings)} findings passed")
        app.promote(MODEL, version.number, reason="the first release")


def _version(app: App, number: int) -> dict[str, Any]:
    version = app.world.state.version(MODEL, number)
    run = app.world.state.run(version.run)
    keep = ("roc_auc", "log_loss", "pr_auc")
    metrics = {name: run.metrics["validation"].get(name) for name in keep}
    return {"version": number, "bundle": version.bundle, "dataset": run.dataset, "metrics": metrics}


def _metrics(version: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} {value:.3f}" for name, value in version["metrics"].items() if value is not None)
    return f"version {version['version']} on held-out subscribers: {text}"


@contextmanager
def _serving(narrator: Narrator, app: App, port: int) -> Iterator[tuple[Server, Traffic]]:
    with narrator.step(
        "a server and its callers", "`ecluse serve` in a process of its own; traffic from now to the end"
    ):
        server = Server.start(app, port)
        bodies = [{"user_id": key} for key in sorted(_subscribers(app, STABLE[-1]) & _subscribers(app, DRIFTED[-1]))]
        traffic = Traffic(server.url, bodies, connections=4, rate=REQUESTS_PER_SECOND)
        traffic.start()
    try:
        with narrator.step(
            "the first answers", "every answer names its model, version, and the moment of its features"
        ):
            _wait_for(traffic, WATCHED // 2)
            answer = server.ask({"user_id": bodies[0]["user_id"]})
            for name in ("user_id", "model", "version", "proba", "threshold", "decision", "as_of", "prediction_id"):
                narrator.tell(f"{name:<14} {answer[name]}")
        yield server, traffic
    finally:
        traffic.stop()
        server.stop()


def _subscribers(app: App, month: str) -> set[str]:
    with (app.root / "data" / month / "subscriptions.csv").open(newline="", encoding="utf-8") as rows:
        return {row["user_id"] for row in csv.DictReader(rows)}


def _wait_for(traffic: Traffic, more: int) -> None:
    if not traffic.wait_for(traffic.counts.sent + more):
        raise AssertionError(f"only {traffic.counts.sent} requests were answered")


def _drift(narrator: Narrator, told: _Told, app: App, traffic: Traffic) -> None:
    with narrator.step(
        "time goes on", f"{DRIFTED[0]} to {DRIFTED[-1]} arrive: prices, regions and behaviour have changed"
    ):
        for month in DRIFTED:
            _ingest(narrator, app, month)
            app.materialize()
    with narrator.step("the monitor", "what is served now against version 1's reference"):
        _wait_for(traffic, int(1.2 * WATCHED))
        report = app.monitor(MODEL, last=WATCHED)
        told.drift = {
            "detected": report.verdict.breached,
            "features": list(report.drifted),
            "findings": to_plain(report.verdict.failed),
        }
        for finding in report.verdict.failed:
            narrator.tell(f"{finding.check}: {finding.why}")
        narrator.require(report.verdict.breached, f"drift in {', '.join(report.drifted)}")


def _retrain(narrator: Narrator, told: _Told, app: App, server: Server) -> None:
    before = app.world.state.rollout(MODEL).champion
    with narrator.step(
        "the reaction", "the event leads by policy to retraining, gates and release, under running traffic"
    ):
        for row in app.react():
            event = row.event
            told.decisions.append(
                {"what": event.evidence.get("command") or event.kind, "version": event.version, "why": event.reason}
            )
            narrator.tell(f"{event.kind}: {sentence(event)}")
        champion = app.world.state.rollout(MODEL).champion
        narrator.require(champion is not None and champion != before, f"version {champion} is in Production")
        assert champion is not None
        seconds = server.wait_for_version(champion)
        narrator.tell(f"the server answered with version {champion} {seconds:.2f} s later, without a restart")
        report = app.world.state.report(MODEL, champion)
        assert report is not None
        told.verdict(report)
        told.versions.append(_version(app, champion))
        narrator.tell(_metrics(told.versions[-1]))
        better = next(finding for finding in report.verdict.findings if finding.check == "non_regression")
        narrator.require(better.passed, better.why)


def _refuse(narrator: Narrator, told: _Told, app: App) -> None:
    with narrator.step(
        "a broken candidate", "the same recipe on shuffled labels: the gates must refuse it and say why"
    ):
        trained = app.train(MODEL, permute_labels=True)
        assert trained.run is not None
        version = app.register(trained.run.id, reason="drill: trained on shuffled labels")
        report = app.gate(MODEL, version.number)
        told.verdict(report)
        told.versions.append(_version(app, version.number))
        for finding in report.verdict.failed:
            narrator.tell(f"{finding.check}: {finding.why}")
        checks = {finding.check for finding in report.verdict.failed}
        narrator.require({"floor", "non_regression"} <= checks, f"refused by {', '.join(sorted(checks))}")
        app.reject(MODEL, version.number, reason="refused by its gates: " + ", ".join(sorted(checks)))


def _roll_back(narrator: Narrator, told: _Told, app: App, server: Server) -> None:
    with narrator.step(
        "an incident", "callers complain; one command brings the version before back: no training, no download"
    ):
        began = time.monotonic()
        rollout = app.rollback(MODEL, reason="incident: callers report wrong offers")
        assert rollout.champion is not None
        server.wait_for_version(rollout.champion)
        told.rollback_seconds = round(time.monotonic() - began, 3)
        narrator.tell(f"version {rollout.champion} answered {told.rollback_seconds:.2f} s after the command")


def _stop(narrator: Narrator, traffic: Traffic) -> dict[str, int]:
    with narrator.step("the callers' side", "all requests since the server started, through a release and a rollback"):
        counts = traffic.stop()
        by_version = ", ".join(f"version {version}: {count:,}" for version, count in sorted(counts.versions.items()))
        held = counts.failed == 0 and counts.sent >= LEAST_REQUESTS
        narrator.require(held, f"{counts.sent:,} sent, {counts.failed} failed; {by_version}")
    return {"sent": counts.sent, "failed": counts.failed}


def _look_back(narrator: Narrator, told: _Told, app: App) -> None:
    with narrator.step("the mirror", "runs, versions, metrics and plots for every tool that knows MLflow"):
        app.finish()
        narrator.tell(f"{app.home / 'mlflow.db'}: `mlflow.pyfunc.load_model('models:/{MODEL}@production')`")
    with narrator.step("the ledger", "who did what, when and why; hash-chained"):
        rows = list(app.world.state.ledger())
        for row in rows:
            event = row.event
            version = f" v{event.version}" if event.version else ""
            said = sentence(event)
            narrator.tell(
                f"{row.sequence:>3} {event.time:%Y-%m-%d} {event.actor:<8} {event.kind}{version}{': ' if said else ''}{said[:110]}"
            )
        told.decisions += [
            {"what": r.event.kind, "version": r.event.version, "why": r.event.reason}
            for r in rows
            if r.event.kind.startswith("version.")
        ]
