"""Thirteen things that go wrong where the tools of the loop are glued together by hand, and cannot happen here: one test each, in their order.

All but one stand on a small project of their own; the server is a real process. Where another file proves more, the test says which.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.journal_reader import read as read_journal
from ecluse.app import App, open_app
from ecluse.core.errors import NotAllowed
from ecluse.core.recipe import held_position
from ecluse.core.version import Stage
from ecluse.data.frame import KEY
from ecluse.demo.server import Server, free_port

MODEL, USERS, SHARE = "churn", 600, 0.25
JANUARY, FEBRUARY = datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)
STALE = datetime(2024, 6, 30, tzinfo=UTC)

PROJECT = """
from ecluse import Boolean, Category, Entity, FeatureView, Integer, Label, Number, Table, last, model

user = Entity("user_id")
users = Table("users", user, {"plan": Category(["Basic", "Gold"]), "plan_tv": Boolean(nulls=0.5)})
usage = Table("usage", user, {"hours": Number(min=0, max=744), "rebuffers": Integer(min=0)}, references=["users"])
labels = Table("labels", user, {"left": Boolean()}, references=["users"])
profile = FeatureView("profile", users, ttl="45d", features={"plan": last("plan"), "plan_tv": last("plan_tv")})
engagement = FeatureView("engagement", usage, ttl="45d", features={"hours": last("hours"), "rebuffers": last("rebuffers")})

@model("churn", predicts=Label("churned", labels, "left"), features=[profile, engagement], judged_by="roc_auc")
def churn(strength: float = 1.0):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from ecluse.training.encoders import scaled_encoder
    return make_pipeline(scaled_encoder(), LogisticRegression(C=strength))
"""
SETTINGS = """
project = "water"
[time]
now = "data"
[gates]
floor = { roc_auc = 0.6 }
latency_ms = 1000.0   # the machine may be busy
max_gap = 0.5
[gates.sanity]
max_psi = 100.0
[monitoring]
mean_shift = 0.3
drift_share = 0.2
target_shift = 0.05
[serving]
poll_ms = 50
[mlflow]
enabled = false
"""


def write_month(folder: Path, seed: int, *, hours: float, shuffled: bool = False) -> Path:
    """One month: who watches little leaves; who watches more in a later month leaves less."""
    rng = np.random.default_rng(seed)
    watched = rng.normal(hours, 6, USERS).clip(0).round(3)
    left = rng.random(USERS) < 1 / (1 + np.exp((watched - 20) / 3))
    keys = [f"u{i}" for i in range(USERS)]
    lost, has = rng.random(USERS) < 0.3, rng.random(USERS) < 0.4
    tv = [None if gone else str(bool(there)) for gone, there in zip(lost, has, strict=True)]
    tables: dict[str, dict[str, Any]] = {
        "users": {"plan": rng.choice(["Basic", "Gold"], USERS), "plan_tv": tv},
        "usage": {"hours": watched, "rebuffers": rng.poisson(2, USERS)},
        "labels": {"left": np.where(left, "True", "False")},
    }
    folder.mkdir(parents=True)
    for number, (name, columns) in enumerate(tables.items()):
        frame = pl.DataFrame({"user_id": keys, **columns})
        frame = frame.sample(fraction=1.0, shuffle=True, seed=number) if shuffled else frame
        frame.write_csv(folder / f"{name}.csv")
    return folder


def make_project(root: Path) -> Path:
    """Declaration, settings and two months of files; nothing else."""
    root.mkdir(parents=True)
    (root / "project.py").write_text(PROJECT)
    (root / "ecluse.toml").write_text(SETTINGS)
    write_month(root / "data" / "january", 1, hours=20)
    write_month(root / "data" / "february", 2, hours=26)
    return root


def train(app: App) -> int:
    """A trained, registered and judged version's number."""
    run = app.train(MODEL).run
    assert run is not None
    number = app.register(run.id).number
    assert app.gate(MODEL, number).verdict.passed
    return number


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with January ingested and materialised, and version 1 in Production."""
    root = make_project(tmp_path_factory.mktemp("january") / "water")
    app = open_app(root)
    assert app.ingest(root / "data" / "january", JANUARY).passed
    app.materialize()
    app.promote(MODEL, train(app), reason="the first release")
    assert isinstance(app.world.state, SqliteState)
    app.world.state.close()  # what is copied is whole
    return root


@pytest.fixture
def app(january: Path, tmp_path: Path) -> App:
    """A copy of that project of one's own."""
    return open_app(shutil.copytree(january, tmp_path / "water"))


def february_in(app: App) -> None:
    assert app.ingest(app.root / "data" / "february", FEBRUARY).passed


@contextmanager
def serving(app: App) -> Iterator[Server]:
    server = Server.start(app, free_port())
    try:
        yield server
    finally:
        server.stop()


def post(server: Server, body: Mapping[str, Any], path: str = "/predict") -> tuple[int, dict[str, Any]]:
    """Status and answer, whatever they are."""
    return request(server, "POST", path, json.dumps(body).encode())


def request(server: Server, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        json_like = "json" in (response.getheader("Content-Type") or "")
        return response.status, json.loads(data) if json_like else {"text": data.decode()}
    finally:
        connection.close()


# -- 1 ----------------------------------------------------------------------------------------------------------------


def test_01_a_fresh_install_gets_exactly_what_was_tested(root: Path) -> None:
    """Every library, also what libraries bring, is pinned with its hash, here and in a new project; what runs now is what is pinned."""
    for lock in (root / "requirements.lock", root / "src/ecluse/templates/churn/requirements.lock"):
        text = lock.read_text().replace("\\\n", " ")
        entries = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert len(entries) > 20
        assert not [entry for entry in entries if not re.match(r"\S+==\S+.*--hash=sha256:", entry)]
    pins = set(re.findall(r"^([\w.-]+)==([^\s;]+)", (root / "requirements.lock").read_text(), re.MULTILINE))
    for name in ("numpy", "scikit-learn", "polars", "onnxruntime", "dbos", "mlflow-skinny"):
        assert (name, importlib.metadata.version(name)) in pins


# -- 2 ----------------------------------------------------------------------------------------------------------------


def test_02_a_project_starts_from_nothing(tmp_path: Path) -> None:
    """Declaring asks no store: project.py alone is imported, no script beside it, and the first ingest makes all state there is."""
    root = make_project(tmp_path / "water")
    (root / "debug_online_features.py").write_text("raise SystemExit('was imported')\n")
    assert open_app(root).project.model().name == MODEL
    app = open_app(root)
    assert app.ingest(root / "data" / "january", JANUARY).passed
    assert app.materialize().views[0].written == USERS


# -- 3 ----------------------------------------------------------------------------------------------------------------


def test_03_rows_in_another_order_give_the_same_model_split_and_judgement(app: App, tmp_path: Path) -> None:
    """Who is held out is decided by the key: no order of rows, no second ingest and no later month moves anybody across."""
    root = make_project(tmp_path / "other" / "water")
    shutil.rmtree(root / "data" / "january")
    write_month(root / "data" / "january", 1, hours=20, shuffled=True)
    other = open_app(root)
    assert other.ingest(root / "data" / "january", JANUARY).passed
    again = other.ingest(root / "data" / "january", JANUARY)
    assert {table.status for table in again.tables} == {"already known"}
    digests = [{s.table: s.digest for s in each.world.state.snapshots()} for each in (app, other)]
    assert digests[0] == digests[1]
    train(other)
    first, second = (each.world.state.run(each.world.state.version(MODEL, 1).run) for each in (app, other))
    assert first.bundle == second.bundle
    assert first.metrics == second.metrics


def test_03_a_champion_is_compared_on_rows_neither_was_trained_on(app: App) -> None:
    february_in(app)
    number = train(app)
    found = {finding.check: finding for finding in app.gate(MODEL, number, dry_run=True).verdict.findings}
    held = sum(held_position(f"u{i}") < SHARE for i in range(USERS))
    assert found["overlap"].measured == 0
    assert found["rows"].why.endswith(f"of {held} entities")
    assert f"on {2 * held} of {2 * held} held-out rows" in found["non_regression"].why


# -- 4 ----------------------------------------------------------------------------------------------------------------


def test_04_labels_belong_to_their_month(app: App) -> None:
    """A new month's labels stand beside the old ones: January can be learnt again, bit for bit, and the target's drift is seen."""
    january = app.training_table(MODEL)
    bundle = app.world.state.version(MODEL, 1).bundle
    february_in(app)
    both = app.training_table(MODEL)
    assert dict(both.group_by("__at").len().iter_rows()) == {JANUARY: USERS, FEBRUARY: USERS}
    assert both.filter(pl.col("__at") == JANUARY).equals(january)
    again = app.train(MODEL, moment=JANUARY, dry_run=True).bundle
    assert again is not None
    assert again.digest == bundle
    app.materialize()
    with serving(app) as server:
        for i in range(250):
            server.ask({"user_id": f"u{i}"})
    report = app.monitor(MODEL)
    [target] = [finding for finding in report.verdict.findings if finding.check == "target_shift"]
    rates = both.group_by("__at").agg(pl.col("label").mean()).sort("__at")["label"]
    assert isinstance(target.measured, float)
    assert target.measured == pytest.approx(rates[0] - rates[1], abs=0.1)
    assert not target.passed


# -- 5 ----------------------------------------------------------------------------------------------------------------


def test_05_an_empty_cell_is_missing_never_true(app: App) -> None:
    """From the file to the model's input: null stays null, in the snapshot, in training, in the online store and in the journal."""
    raw = pl.read_csv(app.root / "data" / "january" / "users.csv", infer_schema_length=0)
    empty = raw.filter(pl.col("plan_tv").is_null())["user_id"]
    assert len(empty) > 100
    [snapshot] = [each for each in app.world.state.snapshots() if each.table == "users"]
    frame = app.world.snapshots.read(snapshot)
    assert set(frame.filter(pl.col("plan_tv").is_null())[KEY]) == set(empty)
    assert frame["plan_tv"].sum() == (raw["plan_tv"] == "True").sum()
    table = app.training_table(MODEL)
    assert set(table.filter(pl.col("plan_tv").is_null())[KEY]) == set(empty)
    with serving(app) as server:
        server.ask({"user_id": empty[0]})
    [record] = read_journal(app.home / "journal")
    assert record["inputs"]["plan_tv"] is None


@pytest.mark.parametrize(
    ("file", "column", "value", "rule"),
    [
        ("labels", "left", "maybe", "left"),
        ("labels", "left", "", "left: missing"),
        ("usage", "hours", "745", "hours"),
        ("usage", "rebuffers", "-1", "rebuffers"),
        ("users", "plan", "Silver", "plan"),
    ],
)
def test_05_every_table_has_a_contract(app: App, file: str, column: str, value: str, rule: str) -> None:
    """Labels and values above a range are checked like everything else: a bad row goes to quarantine with its reason."""
    path = app.root / "data" / "february" / f"{file}.csv"
    frame = pl.read_csv(path, infer_schema_length=0)
    spoilt = (
        pl.when(pl.int_range(pl.len()) == 7).then(pl.lit(value)).otherwise(pl.col(column).fill_null("")).alias(column)
    )
    frame.with_columns(spoilt).write_csv(path)
    february_in(app)
    [snapshot] = [each for each in app.world.state.snapshots() if (each.table, each.as_of) == (file, FEBRUARY)]
    quarantined = app.world.snapshots.quarantined(snapshot)
    assert "u7" in quarantined["user_id"].to_list()
    assert any(reason.startswith(rule) for reason in quarantined.filter(pl.col("user_id") == "u7")["__reasons"][0])


# -- 6 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", ["users", "labels"])
def test_06_a_bad_month_is_refused_before_anything_changes(app: App, spoilt: str) -> None:
    """One table's refusal stops them all: no snapshot, no clock, no document and no feature is touched. tests/loop/test_ingest.py kills it
    at every write besides.
    """
    path = app.root / "data" / "february" / f"{spoilt}.csv"
    pl.read_csv(path).drop("plan" if spoilt == "users" else "left").write_csv(path)
    before = (app.world.state.snapshots(), app.world.clock.now(), app.world.state.generation())
    ledger = len(list(app.world.state.ledger()))
    result = app.ingest(app.root / "data" / "february", FEBRUARY)
    assert not result.passed
    assert (app.world.state.snapshots(), app.world.clock.now(), app.world.state.generation()) == before
    assert [row.event.kind for row in app.world.state.ledger()][ledger:] == ["data.refused"]


# -- 7 ----------------------------------------------------------------------------------------------------------------


def test_07_stale_features_are_told_then_refused_and_never_come_back(app: App) -> None:
    """An answer carries the moments of its features, metrics their age; past their time to live they are refused; the newer value stays."""
    with serving(app) as server:
        body = {"user_id": "u1"}
        february_in(app)
        assert server.ask(body)["as_of"].startswith("2024-01-31")
        assert set(server.ask(body)["moments"]) == {"profile", "engagement"}
        old = server.ask(body)["proba"]
        until(lambda: _age(server) == (FEBRUARY - JANUARY).total_seconds())
        app.materialize()
        new = server.ask(body)
        assert new["as_of"].startswith("2024-02-29"), "no restart"
        assert new["proba"] != old
        late = app.materialize(JANUARY)
        assert {view.written for view in late.views} == {0}
        assert {view.kept for view in late.views} == {USERS}
        assert server.ask(body)["proba"] == new["proba"]
        app.set_clock(STALE)
        until(lambda: post(server, body)[0] == 503)
        assert post(server, body)[1]["code"] == "feature_stale"


def _age(server: Server) -> float:
    text = request(server, "GET", "/metrics")[1]["text"]
    return max(float(age) for age in re.findall(r"ecluse_feature_age_seconds\{.*?\} (\S+)", text))


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


# -- 8 ----------------------------------------------------------------------------------------------------------------


def test_08_no_error_is_a_200(app: App) -> None:
    """Every "no" has a status and a code of its own. tests/serving/test_bad_input.py tries the rest."""
    with serving(app) as server:
        assert [(*post(server, body)[:1], post(server, body)[1]["code"]) for body in (
            {"user_id": "nobody"}, {"user_id": ""}, {}, {"user_id": "u1", "other": 1}, {"user_id": 3.5},
        )] == [
            (404, "unknown_entity"), (422, "wrong_type"), (422, "missing_field"), (422, "unknown_field"), (422, "wrong_type"),
        ]  # fmt: skip


def test_08_readiness_is_not_liveness(tmp_path: Path) -> None:
    """Without a version the process lives, says that it is not ready, and serves the first release without a restart."""
    root = make_project(tmp_path / "water")
    app = open_app(root)
    app.ingest(root / "data" / "january", JANUARY)
    app.materialize()
    number = train(app)
    url, command = app.worker_command(port=free_port())
    server = Server(url, subprocess.Popen(command, stderr=subprocess.DEVNULL), app.home / "server.log")
    try:
        until(lambda: answers(server))
        assert request(server, "GET", "/health")[0] == 200
        until(lambda: request(server, "GET", "/health")[1]["status"] == "no_production_version")  # first it is starting
        assert (request(server, "GET", "/ready")[0], post(server, {"user_id": "u1"})[0]) == (503, 503)
        app.promote(MODEL, number, reason="the first release")
        until(lambda: request(server, "GET", "/ready")[0] == 200)
        assert post(server, {"user_id": "u1"})[0] == 200
    finally:
        server.stop()


def answers(server: Server) -> bool:
    try:
        return request(server, "GET", "/health")[0] == 200
    except OSError:
        return False


def test_08_a_lost_store_is_found_again(app: App) -> None:
    """While the online store is gone the answer is 503 and health says so; when it is back the same process answers.

    Readiness stays: one store's fault must not empty a pool of workers.
    """
    store, away = app.home / "online.db", app.home / "away.db"
    with serving(app) as server:
        assert post(server, {"user_id": "u1"})[0] == 200
        store.rename(away)
        store.mkdir()  # nothing that could be opened
        until(lambda: post(server, {"user_id": "u1"})[0] == 503)
        assert post(server, {"user_id": "u1"})[1]["code"] == "feature_store_unavailable"
        until(lambda: not request(server, "GET", "/health")[1]["online"]["answers"])
        assert request(server, "GET", "/ready")[0] == 200
        store.rmdir()
        away.rename(store)
        until(lambda: post(server, {"user_id": "u1"})[0] == 200)


# -- 9 ----------------------------------------------------------------------------------------------------------------


def test_09_every_answer_is_counted_and_timed_errors_too(app: App) -> None:
    """Requests and latencies are of the same answers, told apart by status and code."""
    with serving(app) as server:
        for body in ({"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "nobody"}, {"user_id": 1.5}, {}):
            post(server, body)
        text = request(server, "GET", "/metrics")[1]["text"]
    counted = {
        tuple(dict(re.findall(r'(\w+)="(.*?)"', labels))[name] for name in ("status", "code")): float(count)
        for labels, count in re.findall(r'ecluse_requests_total\{(.*?route="/predict".*?)\} (\S+)', text)
    }
    assert counted == {
        ("200", "ok"): 2, ("404", "unknown_entity"): 1, ("422", "wrong_type"): 1, ("422", "missing_field"): 1,
    }  # fmt: skip
    timed = re.findall(r'ecluse_request_seconds_count\{(?=.*?route="/predict").*?\} (\S+)', text)
    assert sum(map(float, timed)) == 5


# -- 10 ---------------------------------------------------------------------------------------------------------------


def test_10_a_release_reaches_the_running_server_and_answers_say_so(app: App) -> None:
    with serving(app) as server:
        assert server.ask({"user_id": "u1"})["version"] == 1
        february_in(app)
        app.materialize()
        app.promote(MODEL, train(app), reason="february")
        server.wait_for_version(2)
        answer = server.ask({"user_id": "u1"})
        assert (answer["model"], answer["version"]) == (MODEL, 2)
        assert server.process.poll() is None


def test_10_what_is_released_is_named_and_was_judged(app: App) -> None:
    """No "latest": a version is promoted by number with a report of its own; another's does not help. test_r1_concurrent_promotion.py
    races promoters.
    """
    february_in(app)
    judged = train(app)
    run = app.train(MODEL, parameters={"strength": 0.5}).run
    assert run is not None
    newest = app.register(run.id).number
    assert newest > judged
    with pytest.raises(NotAllowed, match="no gate report"):
        app.promote(MODEL, newest, reason="the latest")
    app.promote(MODEL, judged, reason="the judged one")
    assert app.world.state.rollout(MODEL).champion == judged
    assert app.world.state.version(MODEL, newest).stage is Stage.NONE


# -- 11 ---------------------------------------------------------------------------------------------------------------


def test_11_drift_is_judged_on_what_the_model_reads(app: App) -> None:
    """Neither keys nor labels are inputs; how much must move, and how far, are settings."""
    february_in(app)
    app.materialize()
    with serving(app) as server:
        for i in range(250):
            server.ask({"user_id": f"u{i}"})
    report = app.monitor(MODEL)
    assert set(report.shifts) == {"plan", "plan_tv", "hours", "rebuffers"}
    assert report.drifted == ("hours",)
    [share] = [finding for finding in report.verdict.findings if finding.check == "drift_share"]
    assert (share.measured, share.limit) == (0.25, 0.2)


def test_11_a_retraining_learns_from_every_month_and_nobody_is_on_both_sides(app: App) -> None:
    """All label moments within ``history`` are learnt from, and a user is trained on or judged on in every month alike."""
    february_in(app)
    run = app.train(MODEL, dry_run=True).run
    assert run is not None
    held = sum(held_position(f"u{i}") < SHARE for i in range(USERS))
    assert run.rows == {"train": 2 * (USERS - held), "validation": 2 * held}


# -- 12 ---------------------------------------------------------------------------------------------------------------


def test_12_tracking_needs_no_server_and_serving_no_tracking(app: App) -> None:
    """MLflow is a file beside the state, loaded by nothing on the way to a release or an answer; a server is one process."""
    code = (
        "import sys; from ecluse.app import open_app; import ecluse.worker; app = open_app(sys.argv[1]);"
        "run = app.train('churn').run; number = app.register(run.id).number; app.gate('churn', number); app.status();"
        "assert number == 2, number;"
        "sys.exit(', '.join({name.partition('.')[0] for name in sys.modules} & {'mlflow', 'fastapi', 'gunicorn'}) or 0)"
    )
    (app.root / "ecluse.toml").write_text(SETTINGS.replace("enabled = false", "enabled = true"))
    done = subprocess.run([sys.executable, "-c", code, str(app.root)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    with serving(app) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        if children.exists():
            assert children.read_text() == ""


# -- 13 ---------------------------------------------------------------------------------------------------------------


def test_13_a_corrected_month_is_a_new_snapshot_and_counts(app: App) -> None:
    """The correction is what is learnt from and served from now on; the rows it corrects are still there."""
    february_in(app)
    path = app.root / "data" / "february" / "usage.csv"
    was, other = hours_of(app, "u1"), hours_of(app, "u2")
    corrected = pl.when(pl.col("user_id") == "u1").then(99.5).otherwise(pl.col("hours")).alias("hours")
    pl.read_csv(path).with_columns(corrected).write_csv(path)
    result = app.ingest(app.root / "data" / "february", FEBRUARY)
    assert {table.table: table.status for table in result.tables} == {
        "users": "already known", "usage": "ingested", "labels": "already known",
    }  # fmt: skip
    kept = [each for each in app.world.state.snapshots() if (each.table, each.as_of) == ("usage", FEBRUARY)]
    values = [app.world.snapshots.read(each).filter(pl.col(KEY) == "u1")["hours"].item() for each in kept]
    assert values == [was, 99.5]
    assert (hours_of(app, "u1"), hours_of(app, "u2")) == (99.5, other)
    app.materialize()
    assert app.world.online.read(["engagement"], "u1")["engagement"].values["hours"] == 99.5


def hours_of(app: App, key: str) -> float:
    """What a model would learn of February's user."""
    row = app.training_table(MODEL).filter(pl.col(KEY) == key, pl.col("__at") == FEBRUARY)
    return float(row["hours"].item())
