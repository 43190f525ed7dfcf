"""Several workers under a supervisor: who takes connections, what a death costs, what is counted, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.serving.house import House, Worker, environment, ready_house

from ecluse.adapters.journal_reader import verify
from ecluse.testing.load import Traffic

BODIES = [{"user_id": f"u{i}", "gift": True} for i in range(10)]
BOTH = ("w1", "w2")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


def launch(house: House, *arguments: str, log: Path, **serving: object) -> subprocess.Popen[str]:
    settings = {"poll_ms": 50, "port": 0, "drain_seconds": 2.0, "workers": 2, **serving}
    command = [sys.executable, "-m", "ecluse.supervisor", "--home", str(house.home)]
    with log.open("w") as stream:
        return subprocess.Popen(
            [*command, "--serving", json.dumps(settings), *arguments], stderr=stream, text=True, env=environment()
        )


@contextlib.contextmanager
def fleet(house: House, **serving: object) -> Iterator[Worker]:
    """Two ready workers; the process is their supervisor's."""
    lock, log = house.home / "serve.lock", house.home.parent / f"fleet-{time.monotonic_ns()}.log"
    lock.unlink(missing_ok=True)
    process = launch(house, log=log, **serving)
    try:
        until("it listens", lambda: lock.exists() and bool(lock.read_text()))
        fleet = Worker(process, json.loads(lock.read_text())["url"], log)
        until("both are ready", lambda: set(ready_workers(fleet)) == set(BOTH))
        yield fleet
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def until(what: str, holds: object, seconds: float = 30.0) -> float:
    """Seconds until ``holds()``."""
    assert callable(holds)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if holds():
                return time.monotonic() - begun
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def events(fleet: Worker, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in fleet.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def pids(fleet: Worker) -> dict[str, int]:
    """The process that last listened under each name."""
    return {str(line["worker"]): int(str(line["pid"])) for line in events(fleet, "listening")}


def ready_workers(fleet: Worker, connections: int = 4) -> Counter[str]:
    """Which worker answers on each of some connections open at once, those that are ready."""
    parts, found, opened = urlsplit(fleet.url), Counter[str](), []
    for _ in range(connections):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        opened.append(connection)
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
        found[health["worker"]] += health["status"] == "ok"
    for connection in opened:
        connection.close()
    return +found


@pytest.mark.parametrize("connections", [16, 64])
def test_connections_are_shared_out_evenly(house: House, connections: int) -> None:
    with fleet(house) as workers:
        time.sleep(0.5)  # the connections before are gone
        shares = ready_workers(workers, connections)
    assert all(0.4 <= shares[worker] / connections <= 0.6 for worker in BOTH), shares


def counted(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for worker, value in re.findall(r'ecluse_requests_total\{worker="(\w+)",[^}]*route="/predict".*\} (\S+)', text):
        found[worker] += int(float(value))
    return found


def test_any_worker_answers_for_what_all_have_counted(house: House) -> None:
    with fleet(house) as workers:
        with Traffic(workers.url, BODIES, connections=8) as traffic:
            assert traffic.wait_for(300)
        assert traffic.counts.failed == 0
        for _ in range(4):  # whichever of them is asked
            text = ""

            def complete() -> bool:
                nonlocal text
                text = workers.call("GET", "/metrics")[2]
                return counted(text).total() == traffic.counts.sent

            until("all are counted", complete, 5)
        assert set(counted(text)) == set(BOTH)
        assert text.count("# TYPE ecluse_requests_total counter\n") == 1
        assert re.findall(r"ecluse_ready\{worker=\"(\w+)\"\} 1.0", text) in (["w1", "w2"], ["w2", "w1"])
    kept = [record["id"] for record in house.records()]
    assert len(kept) == len(set(kept)) == traffic.counts.sent
    assert {identity.split("-")[0] for identity in kept} == set(BOTH)


def test_a_killed_worker_costs_only_what_it_was_answering_and_comes_back(house: House) -> None:
    answered: list[str] = []
    with fleet(house) as workers:
        check = lambda body, answer: answered.append(answer["prediction_id"])  # noqa: E731
        with Traffic(workers.url, BODIES, connections=8, check=check) as traffic:
            assert traffic.wait_for(200)
            os.kill(pids(workers)["w1"], signal.SIGKILL)
            assert traffic.wait_for(traffic.counts.sent + 200), "the other answers on"
            until("it is back", lambda: len(events(workers, "listening")) == 3, 10)
            until("it is ready", lambda: "w1" in ready_workers(workers), 10)  # it has fewest connections
            assert traffic.wait_for(traffic.counts.sent + 100)
        assert traffic.counts.failed <= 8, traffic.counts.codes  # one on each connection at most
        lost = set(traffic.counts.codes) - {"ok"}
        assert lost <= {"ConnectionResetError", "RemoteDisconnected", "BrokenPipeError", "IncompleteRead"}
        assert [line["worker"] for line in events(workers, "worker died")] == ["w1"]
        workers.process.send_signal(signal.SIGTERM)
        assert workers.process.wait(20) == 0
    assert set(answered) <= {record["id"] for record in house.records()}
    assert verify(house.home / "journal") == []


def test_sigterm_drains_all_workers(house: House) -> None:
    with fleet(house, drain_wait=0.5) as workers:
        with Traffic(workers.url, BODIES, connections=4) as traffic:
            assert traffic.wait_for(100)
            workers.process.send_signal(signal.SIGTERM)
            until("it says so", lambda: workers.call("GET", "/ready")[2].get("code") == "draining", 5)
            status, headers, _ = workers.call("POST", "/predict", BODIES[1])
            assert (status, headers.get("connection")) == (200, None), "nothing else changes before drain_wait is over"
            assert traffic.wait_for(traffic.counts.sent + 50)
            assert traffic.counts.failed == 0, traffic.counts.codes
        assert workers.process.wait(20) == 0
        assert sorted(str(line.get("worker")) for line in events(workers, "stopped")) == ["None", "w1", "w2"]
    assert len(house.records()) == traffic.counts.sent + 1


def test_a_worker_stopped_alone_is_replaced_and_nobody_notices(house: House) -> None:
    with fleet(house, drain_wait=0.2) as workers:
        os.kill(pids(workers)["w2"], signal.SIGTERM)
        until("it has gone", lambda: events(workers, "stopped"), 10)
        until("another has come", lambda: set(ready_workers(workers)) == set(BOTH), 10)


def test_workers_without_their_supervisor_drain(house: House) -> None:
    with fleet(house) as workers:
        workers.process.kill()
        workers.process.wait()
        until("they have gone", lambda: len(events(workers, "stopped")) == 2, 15)
    with fleet(house) as workers:  # lock, journals and port are free again
        assert workers.predict()[0] == 200


def test_a_second_server_is_refused(house: House) -> None:
    with fleet(house):
        log = house.home.parent / "second.log"
        assert launch(house, log=log).wait(30) == 5
        assert "running already" in log.read_text()
        command = [sys.executable, "-m", "ecluse.worker", "--home", str(house.home)]
        assert subprocess.run(command, capture_output=True, timeout=30, env=environment()).returncode == 5


@pytest.mark.parametrize(
    ("arguments", "serving", "says"),
    [
        (["--profile", "prod"], {}, "no API key"),
        ([], {"workers": 0}, "0 workers"),
        ([], {"workers": 65}, "65 workers"),
        ([], {"port": 70_000}, "port 70000"),
    ],
)
def test_what_cannot_start_ends_and_says_why(
    house: House, arguments: list[str], serving: dict[str, object], says: str
) -> None:
    log = house.home.parent / "refused.log"
    assert launch(house, *arguments, log=log, **serving).wait(30) not in (0, 1)
    assert says in log.read_text()


def test_the_supervisor_loads_the_standard_library_only() -> None:
    code = "import sys, ecluse.supervisor; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    strangers = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"ecluse", "__main__"}
    assert {name for name in strangers if not name.startswith(("_", "sitecustomize"))} == set()


def test_a_worker_that_hangs_keeps_no_new_caller_waiting(house: House) -> None:
    with fleet(house) as workers:
        hung = pids(workers)["w1"]
        os.kill(hung, signal.SIGSTOP)
        try:
            with Traffic(workers.url, BODIES, connections=4) as traffic:
                assert traffic.wait_for(100)
            assert traffic.counts.failed == 0, traffic.counts.codes
            until("its metrics are gone", lambda: set(counted(workers.call("GET", "/metrics")[2])) == {"w2"}, 10)
        finally:
            os.kill(hung, signal.SIGCONT)
