"""The loop that stays up follows the project's sources, survives mistakes in them, and runs none of them itself."""

import json
import logging
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from tests.loop.worlds import candidate
from tests.monitoring.records import prediction

from ecluse import resident
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.project_files import code_digest
from ecluse.adapters.serve_lock import FILE as LOCK
from ecluse.app import App, open_app
from ecluse.core.errors import DeclarationError, Unavailable
from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import Loop
from ecluse.loop import resident as turns
from ecluse.loop.promote import promote
from ecluse.loop.resident import Memory, attempt, step
from ecluse.resident import Declared, follow
from ecluse.serving.metrics import Metrics

PROJECT = """
from ecluse import Boolean, Category, Entity, FeatureView, Label, Table, last, model

user = Entity("user_id")
users = Table("users", user, {"plan": Category(["Basic"])})
labels = Table("labels", user, {"left": Boolean()})
view = FeatureView("view", users, features={"plan": last("plan")})

@model("churn", predicts=Label("churned", labels, "left"), features=[view], judged_by="roc_auc")
def churn(): ...
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "ecluse.toml").write_text('[time]\nnow = "data"\n')
    return tmp_path


def test_changed_sources_are_declared_anew_and_a_mistake_keeps_what_held(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "SOURCES_SECONDS", 0.0)
    monkeypatch.delitem(sys.modules, "project", raising=False)  # another test's
    declared = Declared(open_app(root))
    declared.refresh()
    first = declared.project
    assert [each.name for each in first.models] == ["churn"]
    assert "project" not in sys.modules, "user code runs in a child"

    (root / "project.py").write_text(PROJECT.replace('["Basic"]', '["Basic", "Gold"]'))
    declared.refresh()
    second = declared.project
    assert second.code != first.code
    assert second.table("users") != first.table("users")

    (root / "project.py").write_text("this is no Python")
    declared.refresh()
    assert declared.project == second


def test_with_nothing_that_holds_a_mistake_is_an_error(root: Path) -> None:
    (root / "project.py").write_text("import nowhere_to_be_found")
    with pytest.raises(DeclarationError, match="nowhere_to_be_found"):
        Declared(open_app(root)).refresh()


def test_a_source_of_an_unknown_table_is_an_error(root: Path) -> None:
    (root / "ecluse.toml").write_text('[sources.all]\ndrops = "in/*"\ntables = ["user"]\n')
    with pytest.raises(DeclarationError, match="brings `user`"):
        Declared(open_app(root)).refresh()


@pytest.mark.parametrize(
    "text", ["[monitoring]\nperformance = { roc_acu = 0.7 }", "[models.nope.gates]\nmax_gap = 0.1"]
)
def test_a_name_nobody_declares_is_an_error(text: str, root: Path) -> None:
    _ = open_app(root).project  # remembered: nothing is declared anew
    (root / "ecluse.toml").write_text(text)
    with pytest.raises(DeclarationError, match=r"ecluse\.toml"):
        Declared(open_app(root)).refresh()


def test_a_project_that_never_ends_being_imported_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "DECLARE_SECONDS", 0.5)
    app = open_app(root)
    (root / "project.py").write_text("import time\ntime.sleep(600)\n")
    with pytest.raises(DeclarationError, match="took longer"):
        Declared(app).refresh()


def test_sources_that_cannot_be_read_end_nothing_and_are_looked_at_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's own turns, with sources on a disk that is away for a moment after the first look."""
    monkeypatch.setattr(resident, "SOURCES_SECONDS", 0.0)
    app = open_app(root)
    app = replace(app, settings=replace(app.settings, loop=Loop(every=timedelta(milliseconds=10), warm=False)))
    looks, stop = list[int](), threading.Event()

    def unreliable(folder: Path) -> str:
        looks.append(1)
        if len(looks) == 2:
            raise OSError("input/output error")
        if len(looks) == 4:
            stop.set()
        return code_digest(folder)

    monkeypatch.setattr(resident, "code_digest", unreliable)
    # another test's, on a stream that was closed with it
    monkeypatch.setattr(logging.getLogger("dbos"), "handlers", [])
    follow(app, stop)
    assert len(looks) == 4


class Idle:
    """Durable work of a project in which nothing happens."""

    def run(self, workflow_id: str, name: str, *args: object) -> None:
        raise AssertionError("there is nothing to do")


def test_what_fails_is_told_once_tried_again_and_stops_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    app, memory = open_app(root), Memory()
    project, settings = app.project, replace(app.settings, loop=Loop(warm=False))
    place = app.home / "published.json"
    place.mkdir(parents=True)  # nothing can be published there
    with caplog.at_level("INFO", "ecluse.loop"):
        for _ in range(3):
            assert list(step(app.world, project, settings, Idle(), [], memory)) == []
        assert list(memory.troubles) == ["react"]
        place.rmdir()
        step(app.world, project, settings, Idle(), [], memory)
    assert memory.troubles == {}
    assert [record.message for record in caplog.records] == ["failed", "well again"]


def test_a_bug_in_one_part_ends_no_other_and_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()

    def buggy() -> None:
        raise KeyError("a bug")

    for _ in range(2):
        attempt(memory, "sources", buggy)
    [told] = caplog.records
    assert told.exc_info is not None
    assert told.__dict__["facts"] == {"part": "sources", "why": "KeyError: 'a bug'"}


def test_an_event_whose_chain_fails_waits_and_the_turn_goes_on(root: Path) -> None:
    class Away:
        """Durable work whose store is away."""

        tried = 0

        def run(self, workflow_id: str, name: str, *args: object) -> None:
            self.tried += 1
            raise Unavailable("the store is gone")

    (root / "ecluse.toml").write_text("")  # a clock of data has no time without any
    app, memory, durable = open_app(root), Memory(), Away()
    project, settings = app.project, replace(app.settings, loop=Loop(warm=False))
    asked = Event("trigger.raised", datetime(2024, 1, 1, tzinfo=UTC), "ana", "churn", evidence={"trigger": "manual"})
    app.world.state.append(asked)
    for _ in range(3):
        step(app.world, project, settings, durable, [], memory)
    assert durable.tried == 1
    assert memory.troubles == {}
    assert [each.attempts for each in memory.chains.put_off.values()] == [1]


def test_training_processes_are_made_ready_after_a_release_not_beside_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, warmed = open_app(root), []
    told = [LedgerRow(1, Event("version.promoted", datetime(2024, 1, 1, tzinfo=UTC), "loop", "churn", 2), "", "")]
    monkeypatch.setattr(turns, "react", lambda *given: [told.pop()] if told else [])
    monkeypatch.setattr(turns, "keep_warm", lambda *given: warmed.append(len(told)))
    for expected in (0, 1):
        step(app.world, app.project, app.settings, Idle(), [], Memory())
        assert len(warmed) == expected


def test_a_model_that_cannot_be_guarded_keeps_no_budget_from_being_watched(root: Path) -> None:
    (root / "ecluse.toml").unlink()  # the system's clock
    opened = open_app(root)
    app = replace(opened, settings=replace(opened.settings, loop=Loop(every=timedelta(seconds=0.05))))
    world, counters = app.world, Metrics()
    for model in ("aged", "churn"):
        promote(world, app.settings, model, candidate(world, model, model).number, reason="passed", actor="ana")
    (app.home / "bundles" / world.state.version("aged", 1).bundle / "model.onnx").write_bytes(b"other bytes")
    with Journal.open(app.home / "journal", "w1", durability="process") as journal:
        journal.append(msgspec.json.encode(prediction(1, model="aged")))

    class Workers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            counters.count("/predict", "churn", "1", 500, "not_finite", 0.001)
            for _ in range(200):
                counters.count("/predict", "churn", "1", 200, "ok", 0.001)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(counters.render())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Workers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (app.home / LOCK).write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}))
        with resident.watching(app):
            end = time.monotonic() + 10
            while not (asked := _asked(app)) and time.monotonic() < end:
                time.sleep(0.05)
        server.shutdown()
    assert [(each.model, each.evidence["trigger"]) for each in asked] == [("churn", "slo")]


def _asked(app: App) -> list[Event]:
    return [row.event for row in app.world.state.ledger() if row.event.kind == "trigger.raised"]
