"""R3 for the loop: SIGKILL at every step between an event and the mirror of its release; the next process brings the chain to its one end."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tests.acceptance.loop_process import ORDERS
from tests.acceptance.test_reaction import drifted_project

from ecluse.adapters.mlflow_tracker import MlflowTracker
from ecluse.adapters.sealing import verify
from ecluse.app import App, open_app
from ecluse.core.document import read_document
from ecluse.core.event import broken_at
from ecluse.core.failpoint import LOOP, RELEASE, VARIABLE
from ecluse.core.version import Stage
from ecluse.demo.server import Server, free_port

MODEL = "churn"
FACTS = {"loop.decided": 3, "run.finished": 1, "version.registered": 1, "version.gated": 1, "version.promoted": 1}
STEPS = ["decide", "moment", "train", "decide", "register", "gate", "decide", "promote", "decide"]
"""What the chain of a drift remembers; the last finds that a promotion asks for nothing."""
TRAIN = STEPS.index("train") + 1
PLACES = ("step.begin", "step.done", "step.kept")
KILLS = [f"{place}=kill:{n}" for n in range(1, len(STEPS) + 1) for place in PLACES]
KILLS += [f"{each}=kill" for each in LOOP if not each.startswith(("step.", "mirror."))]
KILLS += [f"{each}=kill" for each in RELEASE if each.startswith(("promote.", "publisher."))]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 in Production, and a drift nobody has handled."""
    return drifted_project(tmp_path_factory.mktemp("start") / "water").root


def copy_of(start: Path, folder: Path) -> App:
    return open_app(Path(shutil.copytree(start, folder / "water", symlinks=True)))


def live(app: App, kill: str = "", what: str = "react", defect: str = "") -> int:
    """One life of the loop's process; its exit code."""
    command = [sys.executable, "-m", "tests.acceptance.loop_process", str(app.root), what, defect]
    root, environment = Path(__file__).parents[2], os.environ | ({VARIABLE: kill} if kill else {})
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def faults(app: App) -> list[str]:
    """What is not as it would be had nobody killed anything."""
    state = app.world.state
    rows, rollout, versions = list(state.ledger()), state.rollout(MODEL), state.versions(MODEL)
    told = Counter(row.event.kind for row in rows if row.event.actor.startswith("loop"))
    found = [] if told == FACTS else [f"the loop told {dict(told)}"]
    if [each.stage for each in versions] != [Stage.ARCHIVED, Stage.PRODUCTION]:
        found.append(f"versions are {[each.stage.value for each in versions]}")
    if (rollout.champion, rollout.previous, rollout.revision) != (2, (1,), 2):
        found.append(f"the rollout is {rollout}")
    if len(state.runs(MODEL)) != 2:
        found.append(f"{len(state.runs(MODEL))} runs")
    if broken_at(rows) is not None:
        found.append("the ledger is broken")
    if app.waiting():
        found.append("events nobody has handled")
    signed = app.world.publisher.current()
    assert signed is not None
    document = read_document(verify(signed, [app.world.sealer.public_key]))
    if (document.models[MODEL].champion, document.generation) != (2, state.generation()):
        found.append(f"generation {document.generation} of champion {document.models[MODEL].champion} is published")
    with closing(sqlite3.connect(app.home / "state.db")) as connection:
        found += [
            f"a lease is left: {name}" for (name,) in connection.execute("SELECT name FROM lease WHERE holder != ''")
        ]
    return found


def orders(app: App) -> Counter[str]:
    return Counter((app.root / ORDERS).read_text().split())


def trainings_left(app: App, seconds: float = 20.0) -> list[str]:
    """Training processes of the project that outlive the loop that started them."""
    end = time.monotonic() + seconds
    while (found := _trainings(app.root)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _trainings(root: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"ecluse.loop.training_process" in (place / "cmdline").read_bytes()
                and (place / "cwd").readlink() == root
            ):
                found.append(place.name)
        except OSError:
            continue
    return found


def test_a_loop_killed_on_the_way_goes_on_and_does_nothing_twice(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small dose: when the run is recorded and its step not remembered, and the same of the promotion. No proof, which is half the time."""
    monkeypatch.setenv("ECLUSE_GATES__REPRODUCIBLE", "false")
    app = copy_of(start, tmp_path)
    for kill in ("train.recorded=kill", f"step.done=kill:{STEPS[TRAIN - 1 :].index('promote') + 1}"):
        assert live(app, kill) == -signal.SIGKILL
    assert app.world.state.rollout(MODEL).champion == 2
    assert live(app) == 0
    assert faults(app) == []
    assert orders(app) == {"run": 1}


@pytest.mark.nightly
@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_anywhere_is_made_good(start: Path, tmp_path: Path, kill: str) -> None:
    app = copy_of(start, tmp_path)
    assert live(app, kill) == -signal.SIGKILL, "it is on the way"
    assert broken_at(app.world.state.ledger()) is None
    assert live(app) == 0
    assert faults(app) == []
    again = kill in ("train.begun=kill", "train.recorded=kill", f"step.done=kill:{TRAIN}")
    assert orders(app) == {"run": 2 if kill == "train.begun=kill" else 1, "proof": 1 + again}
    assert trainings_left(app) == []
    rows = len(list(app.world.state.ledger()))
    assert live(app) == 0
    assert len(list(app.world.state.ledger())) == rows, "nothing is left to do"


@pytest.mark.nightly
@pytest.mark.timeout(900)  # 28 processes, one after the other
def test_one_chain_killed_at_every_boundary_in_turn(start: Path, tmp_path: Path) -> None:
    """Each process dies before, behind, or after the memory of the first step that was not remembered; a server follows throughout."""
    app = copy_of(start, tmp_path)
    app.materialize()
    server = Server.start(app, free_port())
    try:
        for _step in STEPS:
            for place in PLACES:
                assert live(app, f"{place}=kill") == -signal.SIGKILL
        assert live(app) == 0
        seconds = server.wait_for_version(2)
    finally:
        server.stop()
    print(f"R3 loop: {len(STEPS) * len(PLACES)} kills in one chain; the server followed {seconds:.2f} s after its end")
    assert seconds <= 5
    assert faults(app) == []
    assert orders(app) == {"run": 1, "proof": 2}
    assert trainings_left(app) == []


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_mirror_killed_at_every_change_shows_each_once(start: Path, tmp_path: Path) -> None:
    app = mirrored(copy_of(start, tmp_path))
    kills = 0
    while app.world.state.pending():
        for place in ("mirror.begin", "mirror.applied", "mirror.done"):
            before = len(app.world.state.pending())
            assert live(app, f"{place}=kill", "mirror") == -signal.SIGKILL
            assert (len(app.world.state.pending()) < before) == (place == "mirror.done"), (
                "it is there until it is shown"
            )
            kills += 1
    assert live(app, what="mirror") == 0
    print(f"R3 loop: {kills} kills of the mirror")
    assert kills >= 12
    assert shown(app) == ({1: 1, 2: 1}, 2, "2", ["1", "2"])
    assert live(app, what="mirror") == 0
    assert shown(app) == ({1: 1, 2: 1}, 2, "2", ["1", "2"])


def mirrored(app: App) -> App:
    """The project with a mirror that shows version 1, and the loop's release still to be shown."""
    file = app.root / "ecluse.toml"
    file.write_text(file.read_text().replace("enabled = false", "enabled = true"))
    app = open_app(app.root)
    assert live(app, what="mirror") == 0
    assert shown(app) == ({1: 1}, 1, "1", ["1"])
    assert live(app) == 0
    return app


def shown(app: App) -> tuple[dict[int, int], int, str, list[str]]:
    """How often MLflow has each version, how many runs, the version of ours that is called production, and those with their gates' verdict."""
    tracker = MlflowTracker(app.home, app.settings.mlflow, app.settings.project)
    with tracker._asking() as client:
        versions = client.search_model_versions(f"name='{MODEL}'")
        runs = client.search_runs([client.get_experiment_by_name("water").experiment_id])  # type: ignore[union-attr]
        alias = client.get_registered_model(MODEL).aliases["production"]
    numbers = {each.version: each.tags["ecluse.version"] for each in versions}
    judged = sorted(each.tags["ecluse.version"] for each in versions if "ecluse.gate" in each.tags)
    counts = dict(sorted(Counter(int(each) for each in numbers.values()).items()))
    return counts, len(runs), numbers[alias], judged


@pytest.mark.nightly
def test_a_training_nobody_looks_for_is_made_twice(start: Path, tmp_path: Path) -> None:
    """The planted defect: killed when the run is recorded, the next process trains anew."""
    app = copy_of(start, tmp_path)
    assert live(app, "train.recorded=kill") == -signal.SIGKILL
    assert live(app, defect="trains_again") == 0
    assert faults(app) != []


@pytest.mark.nightly
def test_a_mirror_that_tells_first_loses_a_change(start: Path, tmp_path: Path) -> None:
    """The planted defect: the outbox is emptied before the store is written."""
    app = mirrored(copy_of(start, tmp_path))
    assert live(app, "mirror.applied=kill", "mirror", "tells_first") == -signal.SIGKILL
    assert live(app, what="mirror") == 0
    assert not app.world.state.pending()
    assert shown(app)[3] == ["1"], "names are put back by themselves, a verdict is not"
