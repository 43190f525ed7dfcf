"""A home with the churn model published in it, so that ``python -m ecluse.worker`` serves it: explicit features, one API key."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.serving.churn import FEATURES, PAYMENTS, PLANS, Churn

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.adapters.sealing import load_sealer
from ecluse.core.access import KeyGrant, hash_key
from ecluse.core.bundle import make_bundle
from ecluse.core.codec import canonical
from ecluse.core.contract import Category, Number
from ecluse.core.document import FORMAT, Document, ServedModel, ServedVersion
from ecluse.core.entity import Entity
from ecluse.core.recipe import Split
from ecluse.core.schema import Schema, StoredView

KINDS: dict[str, Any] = {each.name: each.kind for each in FEATURES}
SCHEMA = Schema(
    model="churn",
    task="binary",
    features=FEATURES,
    views=(StoredView("usage", Entity("user_id"), KINDS, timedelta(days=45), "refuse"),),
    columns={
        "fee": Number(min=0, max=100),
        "hours": Number(min=0, max=744),
        "payment": Category(PAYMENTS),
        "plan": Category(PLANS),
        "tenure": Number(min=0, max=600),
    },
    request=(),
    derived={},
    accepts="both",
)


def make_home(home: Path, churn: Churn, schema: Schema = SCHEMA) -> str:
    """Publish the model in ``home``; returns an API key for it."""
    home.mkdir(parents=True, mode=0o700)
    sealer, key = load_sealer(home / "keys", create=True), secrets.token_hex(32)
    with contextlib.closing(OnlineSqlite.open(home / "online.db")) as store:
        store.write("usage", [])  # a worker is ready when its store has answered once; an empty one does
    names = [each.name for each in schema.features]
    smoke = [
        {"inputs": {name: row[name] for name in names}, "answer": [answer]}
        for row, answer in zip(churn.rows[:20], churn.answers[:20], strict=True)
    ]
    files = {
        "model.onnx": churn.onnx,
        "schema.json": canonical(schema),
        "smoke.json": canonical({"rows": smoke}),
    }
    bundle = make_bundle(
        model="churn", scorer="onnx", recipe="r", dataset="d", split=Split("entity", 0.25), files=files
    )
    BundlesFiles(home / "bundles").put(bundle, sealer.sign(bundle.digest))
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    document = Document(
        FORMAT,
        "bench",
        1,
        None,
        {"churn": ServedModel(1, {"1": ServedVersion(bundle.digest, 0.5)})},
        (sealer.public_key,),
        (KeyGrant("bench", hash_key(key), ("predict", "metrics"), tomorrow),),
    )
    (home / "published.json").write_bytes(canonical(sealer.sign(canonical(document).decode())))
    return key
