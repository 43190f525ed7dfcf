"""Prequential: a stream nobody prepared, told to the loop window by window. Each row is predicted first, and its truth comes afterwards.

A running server answers, the journal remembers, outcomes arrive, the window is ingested, the monitor judges it, and the loop decides: its own
functions, on the data's clock. Beside it stand two models that cost nothing to run: the first version, never trained again, and one trained
anew with every window. Dawid (1984), "Statistical theory: the prequential approach".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.app import App, open_app, open_scorer
from ecluse.client import Client, Problem
from ecluse.core.bundle import Bundle
from ecluse.core.contract import Number
from ecluse.core.errors import InvalidInput
from ecluse.core.ports import World
from ecluse.demo.server import Server, free_port
from ecluse.loop.carry_out import Done, Hands, carry_out, find
from ecluse.loop.commands import Command, Retrain
from ecluse.loop.labelled import labelled_rows
from ecluse.loop.retrain import train
from ecluse.loop.runner import handle, react
from ecluse.stats.metrics_binary import roc_auc
from ecluse.training.encode import encode
from ecluse.training.make import Job, Y
from ecluse.training.parameters import choose_parameters
from ecluse.training.tune import make_bench, score_fold

Scores = npt.NDArray[np.float64]
ACTOR, BATCH = "prequential", 250
_TRUE = ("true", "1", "1.0", "yes")


@dataclass(frozen=True)
class Window:
    """One stretch of the stream: realised ROC AUC of what the loop served, of the first version, and of a model trained at its beginning;
    the ``version`` that served, and whether the loop ``retrained`` and ``released`` when its truths had come.
    """

    start: datetime
    rows: int
    loop: float
    never: float
    every: float | None
    version: int
    retrained: bool
    released: bool


@dataclass(frozen=True)
class Story:
    """All windows after the warm-up, with the limit the loop was given for realised performance."""

    windows: tuple[Window, ...]
    limit: float

    @property
    def retrainings(self) -> int:
        """How often the loop trained."""
        return sum(window.retrained for window in self.windows)

    @property
    def releases(self) -> int:
        """How many of those were released."""
        return sum(window.released for window in self.windows)

    def mean(self, which: str) -> float:
        """Mean realised AUC of ``loop``, ``never`` or ``every`` over the windows."""
        return float(np.mean([getattr(window, which) for window in self.windows]))


def prequential(
    root: Path,
    *,
    window: timedelta = timedelta(days=1),
    warm_up: int = 5,
    every: bool = True,
    durable: bool = False,
    say: Callable[[Window], None] = lambda window: None,
) -> Story:
    """Run the stream in ``root`` (a project like ``examples/stream``) through the loop. Its state must be new.

    The first ``warm_up`` windows train version 1; its AUC on folds of the rows it was trained on (more of them than are held out, so that the
    limit is no accident) becomes the limit of realised performance, unless ecluse.toml declares one. ``every``: also train
    with every window, to compare. ``durable``: retrain as ``ecluse loop run`` does, in processes and on DBOS; otherwise the same chains run
    within this process. Raises InvalidInput for too short a stream.
    """
    app = open_app(root)
    project, table = app.project, app.project.tables[0]
    parts = _windows(root / f"{table.file}.csv", table.event_time, window)
    if len(parts) <= warm_up:
        raise InvalidInput(f"{len(parts)} windows", where=str(root), cure=f"give more than {warm_up}, or shorter ones")
    model = project.models[0].name
    for part in parts[:warm_up]:
        _ingest(app, part)
    first, limit = _release_first(app, model)
    app = open_app(root, flags={"monitoring": {"performance": {"roc_auc": limit}}})
    told: list[Window] = []
    server = Server.start(app, free_port())
    try:
        for part in parts[warm_up:]:
            # Trained before anything of the window is known, as a nightly job would be.
            fresh = _trained_now(app, model, told) if every else None
            told.append(_live(app, server, model, part, first, fresh, durable=durable))
            say(told[-1])
    finally:
        server.stop()
    return Story(tuple(told), limit)


@dataclass(frozen=True)
class _Part:
    """The rows of one window, all text, and the moments it begins and ends."""

    start: datetime
    end: datetime
    rows: pl.DataFrame


def _live(
    app: App, server: Server, model: str, part: _Part, first: Bundle, fresh: Bundle | None, *, durable: bool
) -> Window:
    """One window: predicted, then its truths, then what the loop makes of it."""
    declared = app.project.model(model)
    label = declared.predicts.column
    asked = [_fields(row, declared.request) for row in part.rows.select(list(declared.request)).to_dicts()]
    y = part.rows[label].str.to_lowercase().is_in(_TRUE).to_numpy()
    client = Client(server.url, timeout=30.0)
    try:
        scores = _ask(client, asked, part)
        version = app.world.state.rollout(model).champion or 0
        _ingest(app, part)
        for begin in range(0, len(asked), BATCH):
            ids = range(begin, min(begin + BATCH, len(asked)))
            client.outcomes([{"request_id": _id(part, i), "value": bool(y[i])} for i in ids])
    finally:
        client.close()
    app.monitor(model, last=len(asked))
    runs = len(app.world.state.runs(model))
    _react(app, durable=durable)
    champion = app.world.state.rollout(model).champion or 0
    if champion != version:
        server.wait_for_version(champion)
    frame = pl.DataFrame(asked, infer_schema_length=None)
    return Window(
        start=part.start,
        rows=len(asked),
        loop=roc_auc(y, scores),
        never=roc_auc(y, _score(first, frame)),
        every=None if fresh is None else roc_auc(y, _score(fresh, frame)),
        version=version,
        retrained=len(app.world.state.runs(model)) > runs,
        released=champion != version,
    )


def _ask(client: Client, asked: Sequence[Mapping[str, Any]], part: _Part) -> Scores:
    """The server's answers to every row."""
    scores: list[float] = []
    for begin in range(0, len(asked), BATCH):
        rows = [
            {"features": fields, "request_id": _id(part, begin + i)}
            for i, fields in enumerate(asked[begin : begin + BATCH])
        ]
        for answer in client.predict_batch(rows):
            if isinstance(answer, Problem):
                raise answer
            scores.append(answer.score)
    return np.array(scores)


def _react(app: App, *, durable: bool) -> None:
    if durable:
        app.react()
        return
    world, project, settings = app.world, app.project, app.settings

    class Here:
        """Port Durable without a memory: the chains of this process, one after the other."""

        def run(self, workflow_id: str, name: str, *args: Any) -> Any:
            (sequence,) = args
            return handle(world, project, settings, [], lambda _, work: work(), sequence, partial(_carry_out, app))

    react(world, settings, Here())


def _carry_out(app: App, hands: Hands, command: Command, reproduced: bool | None) -> Done:
    """As the loop does, but that a training needs no process of its own."""
    if not isinstance(command, Retrain):
        return carry_out(hands, command, reproduced)
    train(hands.world, app.project, hands.settings, command.model, actor=hands.actor)
    row = find(hands.world, command.cause, hands.actor, command.model, "run.finished", "run.failed")
    return Done(None if row is None else row.sequence)


def _release_first(app: App, model: str) -> tuple[Bundle, float]:
    """Version 1 by the same gates as any other, and the least AUC it is to keep."""
    trained = app.train(model)
    if trained.run is None:
        raise InvalidInput(f"no first version: {trained.verdict.failed}", where="warm-up", cure="give it more rows")
    version = app.register(trained.run.id, reason="the first")
    app.gate(model, version.number)
    app.promote(model, version.number, reason="the first")
    declared = app.settings.for_model(model).monitoring.performance.get("roc_auc")
    limit = declared if declared is not None else _expected(app, model)
    return app.world.bundles.get(version.bundle), limit


def _expected(app: App, model: str) -> float:
    """The AUC to expect of a model trained now: the mean over folds inside the rows trained on."""
    declared, settings = app.project.model(model), app.settings.for_model(model)
    rows = labelled_rows(app.world, app.project, declared, app.world.clock.now())
    parameters = choose_parameters(declared, settings.parameters)
    y = rows.labels.frame[Y]
    job = Job(declared, settings, parameters, rows.dataset, rows.frame, y, app.project.code, app.root)
    bench = make_bench(job, 3)
    return float(np.mean([score_fold(bench.job, fold) for fold in bench.folds]))


def _trained_now(app: App, model: str, told: Sequence[Window]) -> Bundle | None:
    """What training now would give; nothing is recorded. Where the loop has just trained on the same rows it is the same, to the byte."""
    if not told or told[-1].retrained:
        return app.world.bundles.get(app.world.state.runs(model)[-1].bundle)
    world: World = replace(app.world, open_scorer=open_scorer)
    return train(world, app.project, app.settings, model, actor=ACTOR, dry_run=True).bundle


def _score(bundle: Bundle, frame: pl.DataFrame) -> Scores:
    scores: Scores = open_scorer(bundle).score(encode(frame, bundle.schema.features))[:, 0]
    return scores


def _windows(path: Path, time: str, window: timedelta) -> list[_Part]:
    """The stream cut into stretches of equal length, empty ones left out; every cell stays text, as it was written."""
    rows = pl.read_csv(path, infer_schema=False)
    moment = pl.col(time).str.to_datetime(time_unit="us", time_zone="UTC")
    rows = rows.with_columns(moment.alias("__moment")).sort("__moment", maintain_order=True)
    parts = rows.group_by_dynamic("__moment", every=window, start_by="datapoint").agg(pl.len())
    begins: list[datetime] = parts["__moment"].to_list()
    found = []
    for begin in begins:
        inside = rows.filter(pl.col("__moment").is_between(begin, begin + window, closed="left")).drop("__moment")
        found.append(_Part(begin, begin + window, inside))
    return found


def _ingest(app: App, part: _Part) -> None:
    """The window's rows are known from its end on."""
    table = app.project.tables[0]
    folder = app.root / "data" / f"{part.start:%Y%m%dT%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    part.rows.write_csv(folder / f"{table.file}.csv")
    result = app.ingest(folder, part.end)
    if not result.passed:
        failed = [finding.why for each in result.tables for finding in each.verdict.failed]
        raise InvalidInput("; ".join(failed), where=str(folder), cure="mend the rows")


def _fields(row: Mapping[str, str | None], columns: Mapping[str, object]) -> dict[str, float | str | None]:
    return {
        name: None if not value else float(value) if isinstance(columns[name], Number) else value
        for name, value in row.items()
    }


def _id(part: _Part, place: int) -> str:
    return f"{part.start:%Y%m%dT%H%M%S}-{place}"
