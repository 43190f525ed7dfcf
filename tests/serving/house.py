"""A small house for the worker: a home with keys, bundles, an online store and a published document, and real worker processes in it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.journal_reader import read
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.adapters.sealing import KeySealer, load_sealer
from ecluse.core.access import KeyGrant
from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.codec import canonical
from ecluse.core.contract import Boolean, Category, Instant, Integer, Number
from ecluse.core.document import FORMAT, Document, ServedModel, ServedVersion
from ecluse.core.entity import Entity
from ecluse.core.expression import AS_OF, feature
from ecluse.core.instants import to_micros
from ecluse.core.ports import OnlineRow
from ecluse.core.recipe import Split
from ecluse.core.schema import Feature, Schema, StoredView
from ecluse.training.encode import encode

JANUARY = datetime(2024, 1, 31, tzinfo=UTC)
USER = Entity("user_id")
FEATURES = (
    Feature("age_days", "number"),
    Feature("fee", "number"),
    Feature("gift", "boolean"),
    Feature("hours", "number"),
    Feature("plan", "category", ("Basic", "Gold")),
)
SCHEMA = Schema(
    model="churn",
    task="binary",
    features=FEATURES,
    views=(
        StoredView("usage", USER, {"hours": "number"}, timedelta(days=45), "refuse"),
        StoredView("profile", USER, {"plan": "category", "fee": "number", "since": "instant"}, None, "accept"),
    ),
    columns={
        "hours": Number(min=0, max=744),
        "plan": Category(("Basic", "Gold", "New")),
        "fee": Number(min=0, nulls=0.5),
        "since": Instant(),
        "gift": Boolean(),
        "count": Integer(min=0),
    },
    request=("gift",),
    derived={"age_days": (AS_OF - feature("since")).days()},
    accepts="both",
)


def bundle(slope: float = 1.0, *, schema: Schema = SCHEMA, smoke_error: float = 0.0) -> Bundle:
    """A logistic model whose weight of ``hours`` is ``slope``, fitted and compiled as training does it."""
    return _package(schema, compiled(slope), "onnx", smoke_error)


@cache
def compiled(slope: float) -> bytes:
    from ecluse.training.compile.pipeline import compile_model

    return compile_model(estimator(slope), FEATURES, "binary")


@cache
def estimator(slope: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import scaled_encoder

    rng = np.random.default_rng(0)
    frame = rows(rng, 400)
    signal_ = slope * (frame["hours"].to_numpy() - 350) / 100 + rng.normal(size=400)
    return make_pipeline(scaled_encoder(), LogisticRegression()).fit(frame, signal_ > 0)


def rows(rng: np.random.Generator, n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "age_days": rng.uniform(0, 900, n),
            "fee": rng.uniform(0, 30, n),
            "gift": rng.integers(0, 2, n).astype(float),
            "hours": rng.uniform(0, 744, n),
            "plan": rng.choice(["Basic", "Gold"], n),
        }
    )


def _package(schema: Schema, model: bytes, kind: Any, smoke_error: float) -> Bundle:
    frame = rows(np.random.default_rng(1), 20)
    answers = OnnxScorer(compiled(1.0) if kind == "skops" else model).score(encode(frame, FEATURES)) + smoke_error
    smoke = [{"inputs": i, "answer": a} for i, a in zip(frame.to_dicts(), answers.tolist(), strict=True)]
    files = {f"model.{kind}": model, "schema.json": canonical(schema), "smoke.json": canonical({"rows": smoke})}
    return make_bundle(
        model=schema.model, scorer=kind, recipe="r", dataset="d", split=Split("entity", 0.25), files=files
    )


def skops_bundle() -> Bundle:
    """The same model as ``bundle(1.0)``, as skops: scored by a process of its own."""
    from ecluse.training.skops_file import dump

    return _package(SCHEMA, dump(estimator(1.0)), "skops", 0.0)


@dataclass
class House:
    """A profile's home, and what is published in it."""

    home: Path
    sealer: KeySealer
    generation: int = 0
    now: datetime | None = JANUARY
    served: dict[str, dict[int, str]] = field(default_factory=dict)
    keys: tuple[KeyGrant, ...] = ()
    trusted: tuple[str, ...] = ()

    @property
    def bundles(self) -> BundlesFiles:
        return BundlesFiles(self.home / "bundles")

    @property
    def online(self) -> OnlineSqlite:
        return OnlineSqlite.open(self.home / "online.db")

    def add(self, number: int, made: Bundle, *, model: str = "churn", sealer: KeySealer | None = None) -> str:
        self.bundles.put(made, (sealer or self.sealer).sign(made.digest))
        self.served.setdefault(model, {})[number] = made.digest
        return made.digest

    def document(self, champion: int | None, *, model: str = "churn", threshold: float = 0.5) -> Document:
        models = {
            name: ServedModel(
                champion, {str(number): ServedVersion(digest, threshold) for number, digest in versions.items()}
            )
            for name, versions in (self.served or {model: {}}).items()
        }
        return Document(
            FORMAT, "house", self.generation, self.now, models, self.trusted or (self.sealer.public_key,), self.keys
        )

    def publish(self, champion: int | None, *, threshold: float = 0.5) -> Document:
        self.generation += 1
        document = self.document(champion, threshold=threshold)
        self.put(document)
        return document

    def put(self, document: Document, sealer: KeySealer | None = None) -> None:
        """Write a document whatever is there: what an attacker or a restored backup would do."""
        signed = (sealer or self.sealer).sign(canonical(document).decode())
        temporary = self.home / "published.tmp"
        temporary.write_bytes(canonical(signed))
        temporary.replace(self.home / "published.json")

    def fill(self, users: Sequence[str], moment: datetime = JANUARY, **changed: Any) -> None:
        """Online rows of both views for these users."""
        micros = to_micros(moment)
        for i, user in enumerate(users):
            values: dict[str, Any] = {
                "hours": 10.0 * i,
                "plan": "Gold",
                "fee": 9.5,
                "since": micros - 86_400_000_000 * 100,
            } | changed
            usage, profile = {"hours": values.pop("hours")}, values
            self.online.write("usage", [(user, OnlineRow(usage, micros, micros))])
            self.online.write("profile", [(user, OnlineRow(profile, micros, micros))])

    def records(self) -> list[dict[str, Any]]:
        return list(read(self.home / "journal"))


def make_house(folder: Path) -> House:
    home = folder / ".ecluse" / "dev"
    home.mkdir(parents=True, mode=0o700)
    return House(home, load_sealer(home / "keys", create=True))


def ready_house(folder: Path, *, champion: int | None = 1) -> House:
    """A house with version 1 published and users u0 to u9 in the online store."""
    house = make_house(folder)
    house.fill([f"u{i}" for i in range(10)])
    house.add(1, bundle(1.0))
    house.publish(champion)
    return house


@dataclass
class Worker:
    """A running worker process."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        raw: bytes | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers (lower case) and parsed body of one request on a connection of its own."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        try:
            connection.request(method, path, data, sent | dict(headers or {}))
            with connection.getresponse() as response:
                text = response.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return (
            response.status,
            found,
            json.loads(text) if "json" in found.get("content-type", "") and text else text.decode(),
        )

    def predict(self, user: str = "u1", **more: Any) -> tuple[int, Any]:
        status, _, answer = self.call("POST", "/predict", {"user_id": user, "gift": True, **more})
        return status, answer

    def health(self) -> Any:
        return self.call("GET", "/health")[2]

    def wait(self, what: str, holds: Any, seconds: float = 20.0) -> None:
        """Wait until ``holds(health)``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if holds(self.health()):
                return
            time.sleep(0.02)
        raise AssertionError(
            f"not within {seconds} s: {what}; health {self.health()}; log {self.log.read_text()[-2_000:]}"
        )

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


WORKER = ("-m", "ecluse.worker")


@contextlib.contextmanager
def running(
    house: House, *arguments: str, wait: bool = True, program: Sequence[str] = WORKER, **serving: Any
) -> Iterator[Worker]:
    """A worker over the house, on a free port. ``program``: what Python is to run as the worker."""
    settings = {"poll_ms": 50, "port": 0, "drain_seconds": 2.0, **serving}
    log = house.home.parent / f"worker-{time.monotonic_ns()}.log"
    worker = start(house, "--serving", json.dumps(settings), *arguments, log=log, program=program)
    try:
        if wait:
            worker.wait("ready", lambda health: health["status"] in ("ok", "degraded", "no_production_version"))
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGTERM)
            try:
                worker.process.wait(10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def start(house: House, *arguments: str, log: Path, program: Sequence[str] = WORKER) -> Worker:
    lock = house.home / "serve.lock"
    lock.unlink(missing_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, *program, "--home", str(house.home), *arguments],
            stderr=stream,
            text=True,
            env=environment(),
        )
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the worker ended with {process.returncode}: {log.read_text()}")
        if lock.exists() and (text := lock.read_text()):
            return Worker(process, json.loads(text)["url"], log)
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"the worker did not start: {log.read_text()}")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def other_sealer() -> KeySealer:
    return KeySealer(bytes(range(32)))


def with_schema(**changed: Any) -> Schema:
    return replace(SCHEMA, **changed)
