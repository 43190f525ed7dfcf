"""A World of real adapters in a folder, and candidates for it; shared by the tests of the release path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.clock import SystemClock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.publisher_files import PublisherFiles
from ecluse.adapters.sealing import load_sealer
from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.codec import digest
from ecluse.core.event import Event
from ecluse.core.ports import Clock, State, World
from ecluse.core.recipe import Split
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.core.version import GateReport, ModelVersion, Run
from ecluse.loop.register import register

NOW = datetime(2024, 1, 31, tzinfo=UTC)
MODEL = "churn"
SETTINGS = Settings(project="water")


def world_in(home: Path, *, state: State | None = None, clock: Clock | None = None) -> World:
    """All ports a release needs; the others are not there."""
    absent = cast(Any, None)
    return World(
        root=home,
        home=home,
        clock=clock or SystemClock(),
        state=state or SqliteState(home / "state.db"),
        snapshots=absent,
        bundles=BundlesFiles(home / "bundles"),
        online=absent,
        sealer=load_sealer(home / "keys", create=True, environment={}),
        publisher=PublisherFiles(home),
        open_scorer=absent,
        read_predictions=absent,
        tracker=lambda: None,
        actor="ana",
    )


def bundle_of(text: str, model: str = MODEL) -> Bundle:
    files = {"model.onnx": text.encode(), "schema.json": b"{}"}
    return make_bundle(
        model=model,
        scorer="onnx",
        recipe=digest(text),
        dataset=digest("data"),
        split=Split("entity", 0.25),
        files=files,
    )


def run_of(name: str, bundle: str, model: str = MODEL, threshold: float | None = 0.5) -> Run:
    return Run(
        id=name,
        model=model,
        started=NOW,
        seconds=1.5,
        recipe=digest(name),
        dataset=digest("data"),
        bundle=bundle,
        parameters={"leaves": 31, "rate": 0.1, "depth": None},
        metrics={"validation": {"roc_auc": 0.8, "lift": None}},
        segments={},
        rows={"train": 10},
        threshold=threshold,
        facts={"commit": "abc"},
    )


def fact(kind: str = "clock.set", model: str = MODEL, **evidence: Any) -> Event:
    return Event(kind, NOW, "ana", model, None, "because", evidence)


def report_of(
    version: ModelVersion, champion: int | None, *, passed: bool = True, dry: bool = False, made: datetime | None = None
) -> GateReport:
    made = made or datetime.now(UTC)
    finding = Finding("floor", Outcome.PASSED if passed else Outcome.FAILED, "it was looked at", 0.8, 0.7, "roc_auc")
    verdict = Verdict("gate", (finding,))
    expires = made + timedelta(days=7)
    return GateReport(
        version.model, version.number, version.bundle, champion, verdict, made, expires, dry, version.threshold
    )


def train(world: World, name: str, model: str = MODEL) -> Run:
    """A run with a sealed bundle of its own."""
    bundle = bundle_of(name, model)
    world.bundles.put(bundle, world.sealer.sign(bundle.digest))
    run = run_of(name, bundle.digest, model)
    world.state.add_run(run, fact("run.finished", model, run=run.id, bundle=run.bundle))
    return run


def candidate(world: World, name: str, model: str = MODEL) -> ModelVersion:
    """A version in Staging, judged against the present champion."""
    run = train(world, name, model)
    version = register(world, SETTINGS, run.id, reason="trained", actor="ana")
    gate(world, version)
    return world.state.version(model, version.number)


def gate(world: World, version: ModelVersion) -> None:
    report = report_of(version, world.state.rollout(version.model).champion)
    world.state.add_report(report, fact("version.gated", version.model, report=digest(report)))
