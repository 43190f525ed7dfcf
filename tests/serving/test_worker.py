"""The worker as a process: how it ends, what it keeps when killed, and what it does while its stores are away."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.serving.house import House, Worker, bundle, make_house, ready_house, running

from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.testing.load import Traffic

BODIES = [{"user_id": f"u{i}", "gift": True} for i in range(10)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


def test_sigterm_finishes_what_is_in_flight(house: House) -> None:
    with running(house, deadline_ms=5_000) as worker:
        parts = urlsplit(worker.url)
        slow = socket.create_connection((parts.hostname, parts.port), timeout=10)
        body = json.dumps(BODIES[1]).encode()
        head = (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        slow.sendall(head % len(body) + body[:5])
        time.sleep(0.1)
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        status, headers, answer = worker.call("GET", "/ready")
        assert (status, answer["code"], headers["connection"]) == (503, "draining", "close")
        slow.sendall(body[5:])
        answered = slow.recv(65_536)
        assert answered.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answered
        slow.close()
        assert worker.process.wait(10) == 0
    assert len(house.records()) == 1


def test_clients_that_heed_ready_lose_nothing(house: House) -> None:
    """As behind a load balancer: requests go on until /ready says no, and all of them are answered."""
    with running(house, drain_seconds=6.0) as worker:
        with Traffic(worker.url, BODIES, connections=4) as traffic:
            assert traffic.wait_for(200)
            worker.process.send_signal(signal.SIGTERM)
            while worker.call("GET", "/ready")[0] == 200:
                time.sleep(0.01)
            seen = traffic.counts.sent
            assert traffic.wait_for(seen + 100), "it goes on answering while the others take notice"
        assert traffic.counts.failed == 0, traffic.counts.codes
        assert worker.process.wait(20) == 0
    assert len(house.records()) == traffic.counts.sent


def test_clients_that_heed_nothing_get_no_answer_that_is_not_kept(house: House) -> None:
    with running(house, drain_seconds=1.0) as worker, Traffic(worker.url, BODIES, connections=4) as traffic:
        assert traffic.wait_for(200)
        assert worker.stop() == 0
    lost = set(traffic.counts.codes) - {"ok"}
    assert lost <= {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "BrokenPipeError"}
    assert traffic.counts.codes["ok"] <= len(house.records()) <= traffic.counts.codes["ok"] + 4


def test_kill_9_loses_no_answered_prediction(house: House) -> None:
    answered: list[str] = []
    for _ in range(3):
        with running(house) as worker:
            check = lambda body, answer: answered.append(answer["prediction_id"])  # noqa: E731
            traffic = Traffic(worker.url, BODIES, connections=4, check=check)
            traffic.start()
            traffic.wait_for(200)
            worker.process.kill()
            worker.process.wait()
            traffic.stop()
    kept = [record["id"] for record in house.records()]
    assert len(answered) >= 600
    assert set(answered) <= set(kept)
    assert len(set(kept)) == len(kept)


def test_the_online_store_goes_and_comes_back(house: House) -> None:
    with running(house) as worker:
        assert worker.predict()[0] == 200
        hidden = house.home.parent / "hidden"
        hidden.mkdir()
        for path in house.home.glob("online.db*"):
            path.rename(hidden / path.name)
        status, headers, answer = worker.call("POST", "/predict", BODIES[1])
        assert (status, answer["code"], headers["retry-after"]) == (503, "feature_store_unavailable", "1")
        assert worker.call("GET", "/ready")[0] == 200, "one fault of a shared store must not empty the pool"
        assert worker.health()["status"] == "degraded"
        assert worker.health()["online"]["answers"] is False
        assert worker.call("GET", "/metrics")[0] == 200, "what watches the outage must not go down with it"
        for path in hidden.iterdir():
            path.rename(house.home / path.name)
        worker.wait("ready again", lambda health: health["status"] == "ok")
        assert worker.predict()[0] == 200


def test_a_first_release_waits_for_the_store_though_the_worker_was_there_before(tmp_path: Path) -> None:
    house = make_house(tmp_path)
    house.add(1, bundle())
    house.publish(None)
    with running(house) as worker:
        house.publish(1)
        worker.wait("it is loaded", lambda health: health["models"]["churn"]["serving"] == 1)
        worker.wait("the store was asked", lambda health: health["online"]["problem"])
        assert worker.call("GET", "/ready")[2]["code"] == "feature_store_unavailable"
        house.fill(["u1"])
        worker.wait("ready", lambda health: health["status"] == "ok")
        assert worker.predict()[0] == 200


def test_before_the_first_materialization_it_is_not_ready(tmp_path: Path) -> None:
    house = ready_house(tmp_path)
    for path in house.home.glob("online.db*"):
        path.unlink()
    with running(house, wait=False) as worker:
        worker.wait("it says why", lambda health: health["status"] == "feature_store_unavailable")
        house.fill(["u1"])
        worker.wait("ready", lambda health: health["status"] == "ok")
        assert worker.predict()[0] == 200


def test_a_full_disk_acknowledges_nothing_and_recovers(house: House) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small disk")
    journal = house.home / "journal"
    journal.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(journal)], capture_output=True
    ).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with running(house) as worker:
            _fill_up(worker, house)
    finally:
        subprocess.run(["umount", "-l", str(journal)], check=True)


def _fill_up(worker: Worker, house: House) -> None:
    answered = []
    for _ in range(1_000):
        status, answer = worker.predict()
        if status != 200:
            break
        answered.append(answer["prediction_id"])
    assert (status, answer["code"]) == (503, "log_unavailable")
    assert worker.call("GET", "/ready")[2]["code"] == "log_unavailable"
    assert [record["id"] for record in house.records()] == answered
    subprocess.run(["mount", "-o", "remount,size=1m", str(house.home / "journal")], check=True)
    worker.wait("ready again, without a restart", lambda health: health["status"] == "ok", 5)
    status, answer = worker.predict()
    assert status == 200
    assert [record["id"] for record in house.records()] == [*answered, answer["prediction_id"]]


def test_a_cold_start_without_the_control_plane(house: House) -> None:
    """Only home is needed: no state database, and a published document that went missing is taken from the copy kept."""
    with running(house):
        pass
    (house.home / "published.json").unlink()
    with running(house) as worker:
        assert worker.predict()[1]["version"] == 1
    assert not (house.home / "state.db").exists()


def test_the_log_is_json_and_names_what_serves(house: House) -> None:
    with running(house) as worker:
        pass
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["listening", "version.serving", "stopped"]


def test_readers_while_features_are_written(house: House) -> None:
    """Materialization in the middle of traffic: no request waits or fails."""
    done = threading.Event()

    def materialize() -> None:
        while not done.is_set():
            house.fill([f"u{i}" for i in range(10)])

    writer = threading.Thread(target=materialize)
    with running(house) as worker, Traffic(worker.url, BODIES, connections=2) as traffic:
        writer.start()
        traffic.wait_for(400)
        done.set()
        writer.join()
    assert traffic.counts.failed == 0, traffic.counts.codes


def test_pipelined_requests_are_answered_in_order(house: House) -> None:
    with running(house) as worker:
        parts = urlsplit(worker.url)
        body = b'{"user_id": "u%d", "gift": true}'
        head = (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n"
        )
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
            connection.sendall(b"".join(head + body % i for i in range(5)))
            received = b""
            while received.count(b"degraded") < 5 and (part := connection.recv(65_536)):
                received += part
        users = re.findall(rb'"user_id":"(u\d)"', received)
        assert users == [b"u0", b"u1", b"u2", b"u3", b"u4"]


def test_a_rolled_back_worker_restarted_serves_the_same(house: House) -> None:
    house.add(2, bundle(-1.0))
    house.publish(2)
    with running(house) as worker:
        assert worker.predict()[1]["version"] == 2
        house.publish(1)
        worker.wait("rolled back", lambda health: health["models"]["churn"]["serving"] == 1)
    with running(house) as worker:
        assert worker.predict()[1]["version"] == 1
    assert OnlineSqlite.open(house.home / "online.db").moment("usage") is not None
