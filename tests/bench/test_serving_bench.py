"""The serving benchmark still runs: ours, the static limit and the FastAPI tutorial answer right, no request failed. Nothing is timed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bench.serving.churn import Churn, make_churn
from bench.serving.entity import entity_servers, make_subscribers, redis_stores
from bench.serving.load import family
from bench.serving.open_loop import ask_at, due_moments
from bench.serving.ours import make_home
from bench.serving.peers import PEERS
from bench.serving.run import Found, How, half_table, measure, shares_text, table
from bench.serving.servers import Server, check, end, ours, place_of, started, static

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc and pins to CPUs")


@pytest.fixture(scope="module")
def churn() -> Churn:
    return make_churn(trees=5)


def quick(folder: Path, *, half: tuple[str, ...] = ()) -> How:
    return How(folder, seconds=1, rounds=1, connections=4, half=half)


def mine(folder: Path, churn: Churn, workers: int = 1) -> Server:
    return ours(folder / "home", make_home(folder / "home", churn), workers=workers)


def all_answered(found: Found) -> None:
    for loads in found.loads.values():
        assert [each.failed for each in loads] == [0]
        assert loads[0].rate > 0
        assert loads[0].cpu_us > 0


def test_ours_the_limit_and_the_tutorial(tmp_path: Path, churn: Churn) -> None:
    tutorial = replace(PEERS[0], packages=())  # all it needs is in the lock: no environment of its own here
    servers = [mine(tmp_path, churn), static(), tutorial]
    found = measure(servers, churn, tmp_path, quick(tmp_path, half=("ecluse", "static")))
    assert list(found.loads) == ["ecluse", "static", "fastapi"]
    all_answered(found)
    assert [waits.failed for windows in found.waits.values() for waits in windows] == [0] * 4
    text = table(servers, found, tmp_path)
    assert text.count("\n") == 4
    assert "| 1.00× |" in text
    assert "poisson: " in half_table(found)


def test_two_workers_share_the_requests(tmp_path: Path, churn: Churn) -> None:
    servers = [mine(tmp_path, churn), mine(tmp_path / "more", churn, workers=2)]
    servers[1] = replace(servers[1], name="ecluse-2")
    found = measure(servers, churn, tmp_path, replace(quick(tmp_path), workers=2))
    all_answered(found)
    (shares,) = found.shares["ecluse-2"]
    assert set(shares) == {"w1", "w2"}
    assert sum(shares.values()) == pytest.approx(1)
    assert "w1" in next(iter(shares_text(found)))


def test_entity_keys_from_both_stores_answer_as_explicit_features_do(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None and not os.environ.get("CI"):
        pytest.skip("no redis-server on this machine")
    asked = make_subscribers(trees=5)
    few = replace(asked, rows=asked.rows[::200], answers=asked.answers[::200])
    with redis_stores(tmp_path) as redis:
        servers = entity_servers(tmp_path, few, redis)
        all_answered(found := measure(servers, few, tmp_path, quick(tmp_path)))
    assert list(found.loads) == ["explicit", "sqlite", "redis"]


def test_a_wrong_answer_is_not_measured(tmp_path: Path, churn: Churn) -> None:
    server = mine(tmp_path, churn)
    answers = [{"proba": right} for right in churn.answers]
    check(server, churn, answers)
    for wrong in (answers[7]["proba"] + 1e-6, float("nan")):
        with pytest.raises(ValueError, match="differ"):
            check(server, churn, [*answers[:7], {"proba": wrong}, *answers[8:]])


@pytest.mark.parametrize("broken", ["build", "start", "answer"])
def test_a_broken_peer_is_told_and_the_others_run(tmp_path: Path, churn: Churn, broken: str) -> None:
    def no_server(place: Path, model: Path, port: int) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('cannot start')"]

    bad = replace(static(), name="bad", title="bad", packages=("no-such-package==0",))
    if broken == "build":
        (tmp_path / "peer-bad").write_text("in the way")
    else:
        (tmp_path / "peer-bad" / "bin").mkdir(parents=True)
        (tmp_path / "peer-bad" / "built").touch()
        bad = (
            replace(bad, read=lambda answer: answer["proba"] + 1)
            if broken == "answer"
            else replace(bad, command=no_server)
        )
    servers = [static(), bad]
    found = measure(servers, churn, tmp_path, quick(tmp_path))
    assert list(found.loads) == ["static"]
    assert list(found.broken) == ["bad"]
    assert "left out" in table(servers, found, tmp_path)


def test_ours_may_not_be_left_out(tmp_path: Path, churn: Churn) -> None:
    wrong = replace(churn, answers=[0.5] * len(churn.answers))
    with pytest.raises(ValueError, match="differ"):
        measure([mine(tmp_path, churn)], wrong, tmp_path, quick(tmp_path))


def test_the_client_at_a_rate_counts_from_the_due_moment(tmp_path: Path, churn: Churn) -> None:
    """A server that stops for 0.3 s again and again: requests fall due meanwhile, whether or not they can be sent."""
    churn.write(tmp_path / "model")
    with started(static(), churn, tmp_path / "model", place_of(static(), tmp_path)) as (target, pid):
        turns = f"for i in 1 2 3 4 5 6 7 8 9 10; do kill -STOP {pid}; sleep 0.3; kill -CONT {pid}; sleep 0.1; done"
        stopper = subprocess.Popen(["sh", "-c", turns])
        waits = ask_at(target, 200, 0.8, "steady", connections=2)
        stopper.wait()
    assert waits.failed == 0
    assert waits.p99_ms > 150


def test_arrivals_keep_the_rate() -> None:
    for arrivals in ("steady", "poisson"):
        due = due_moments(1_000, 10, arrivals)
        assert len(due) == 10_000
        assert due == sorted(due)
        assert due[-1] == pytest.approx(10, rel=0.05)


def test_all_that_a_server_has_started_is_counted_and_ended(tmp_path: Path) -> None:
    orphan = "import subprocess, time; subprocess.Popen(['sleep', '60']); "
    script = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {orphan!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    patience, found = time.monotonic() + 20, dict[int, list[str]]()
    while time.monotonic() < patience:  # until the one between has ended: no parent leads to sleep
        found = family(process.pid)
        if len(found) == 2 and all(int(stat[1]) != process.pid for stat in found.values()):
            break
        time.sleep(0.05)
    assert process.pid in found
    assert len(found) == 2
    end(process)
    assert process.returncode == -signal.SIGTERM
    left = {pid for pid, stat in family(process.pid).items() if stat[0] != "Z"}
    patience = time.monotonic() + 10
    while left and time.monotonic() < patience:
        left = {pid for pid, stat in family(process.pid).items() if stat[0] != "Z"}
    assert not left
