"""Asking by entity key: 14 features in 4 views of 7,043 subscribers, in SQLite and in Redis, beside the same features sent by the caller."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from bench.serving.churn import Churn
from bench.serving.load import CLIENT_CPU, pinned
from bench.serving.ours import make_home
from bench.serving.servers import Row, Server, free_port, ours
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from ecluse.adapters.online import open_online
from ecluse.core.contract import Boolean, Category, Column, Number
from ecluse.core.entity import Entity
from ecluse.core.instants import to_micros
from ecluse.core.ports import OnlineRow
from ecluse.core.schema import Feature, Schema, StoredView
from ecluse.core.settings import Stores
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encoders import encoder

SUBSCRIBERS = 7_043
CONTRACTS, NETS = ("month", "one_year", "two_years"), ("dsl", "fiber", "none")
VIEWS: dict[str, tuple[str, ...]] = {
    "subscription": ("contract", "fee", "months", "net", "paperless", "tv"),
    "usage": ("devices", "hours", "rebuffers", "session_minutes", "skips"),
    "payments": ("failed",),
    "support": ("resolution_hours", "tickets"),
}
WORDS = {"contract": CONTRACTS, "net": NETS}
SWITCHES = ("paperless", "tv")
USER = Entity("user_id")


def _kind(name: str) -> Any:
    return "category" if name in WORDS else "boolean" if name in SWITCHES else "number"


def _column(name: str) -> Column:
    if name in WORDS:
        return Category(WORDS[name])
    return Boolean() if name in SWITCHES else Number(min=0, max=10_000)


NAMES = sorted(name for names in VIEWS.values() for name in names)
FEATURES = tuple(Feature(name, _kind(name), WORDS.get(name)) for name in NAMES)
SCHEMA = Schema(
    model="churn",
    task="binary",
    features=FEATURES,
    views=tuple(
        StoredView(view, USER, {name: _kind(name) for name in names}, timedelta(days=45), "refuse")
        for view, names in VIEWS.items()
    ),
    columns={name: _column(name) for name in NAMES},
    request=(),
    derived={},
    accepts="both",
)


def table() -> pl.DataFrame:
    """Seeded subscribers with the columns of the views; switches are booleans."""
    rng, n = np.random.default_rng(0), SUBSCRIBERS
    return pl.DataFrame(
        {
            "contract": rng.choice(CONTRACTS, n, p=(0.55, 0.21, 0.24)),
            "fee": rng.uniform(18, 119, n).round(2),
            "months": rng.integers(0, 73, n).astype(float),
            "net": rng.choice(NETS, n, p=(0.34, 0.44, 0.22)),
            "paperless": rng.random(n) < 0.59,
            "tv": rng.random(n) < 0.38,
            "devices": rng.integers(1, 6, n).astype(float),
            "hours": rng.gamma(2, 15, n),
            "rebuffers": rng.poisson(3, n).astype(float),
            "session_minutes": rng.gamma(4, 8, n),
            "skips": rng.poisson(5, n).astype(float),
            "failed": rng.poisson(0.4, n).astype(float),
            "resolution_hours": rng.gamma(2, 6, n),
            "tickets": rng.poisson(0.8, n).astype(float),
        }
    ).select(NAMES)


def make_subscribers(trees: int = 100) -> Churn:
    """The model with trees of 31 leaves, fitted on all of them; every one of them is asked about, ``user_id`` with the features."""
    told = table()
    frame = told.with_columns(pl.col(pl.Boolean).cast(float))
    noise = np.random.default_rng(1).normal(size=SUBSCRIBERS)
    leaning = 0.02 * frame["fee"] - 0.04 * frame["months"] + 0.6 * frame["failed"] + 0.3 * frame["tickets"] - 1
    boosting = HistGradientBoostingClassifier(max_iter=trees, max_leaf_nodes=31, early_stopping=False, random_state=0)
    pipeline = make_pipeline(encoder(), boosting).fit(frame, leaning.to_numpy() + noise > 0)
    rows = [{"user_id": f"u{i}", **row} for i, row in enumerate(told.iter_rows(named=True))]
    answers = pipeline.predict_proba(frame)[:, 1].tolist()
    return Churn(pipeline, FEATURES, compile_model(pipeline, FEATURES, "binary"), rows, answers)


def fill(home: Path, stores: Stores, churn: Churn) -> None:
    """Every subscriber's row of every view, as of now."""
    now = to_micros(datetime.now(UTC))
    store = open_online(home, stores)
    for view, names in VIEWS.items():
        store.write(
            view, [(row["user_id"], OnlineRow({name: row[name] for name in names}, now, now)) for row in churn.rows]
        )
    if close := getattr(store, "close", None):
        close()


@contextlib.contextmanager
def redis_stores(folder: Path) -> Iterator[Stores]:
    """Settings of a redis-server of our own on a free port, on the client's CPU: it costs the workers none of theirs.

    Raises RuntimeError when there is none or it does not answer.
    """
    if shutil.which("redis-server") is None:
        raise RuntimeError("there is no redis-server on this machine")
    port = free_port()
    command = [
        *pinned(CLIENT_CPU),
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
    ]
    process = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield Stores(online=f"redis://127.0.0.1:{port}/0", online_prefix="ecluse:bench:dev")
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    patience = time.monotonic() + 10
    while time.monotonic() < patience:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError("redis-server does not answer")


def explicit(row: Row) -> dict[str, Any]:
    """The body that sends all features."""
    return {"features": {name: row[name] for name in NAMES}}


def by_key(row: Row) -> dict[str, Any]:
    """The body that names the subscriber."""
    return {"user_id": row["user_id"]}


def entity_servers(folder: Path, churn: Churn, redis: Stores) -> list[Server]:
    """One home, asked in three ways; both stores filled."""
    home = folder / "entity-home"
    key = make_home(home, churn, SCHEMA)
    for stores in (Stores(), redis):
        fill(home, stores, churn)
    return [
        ours(home, key, name="explicit", title="14 features in the request", body=explicit),
        ours(home, key, name="sqlite", title="entity key, 4 views in SQLite", body=by_key),
        ours(home, key, name="redis", title="entity key, 4 views in Redis", body=by_key, stores=redis),
    ]
