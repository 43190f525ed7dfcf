"""Several workers under a supervisor: who takes connections, what a death costs, what is counted, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.serving.crew import BODIES, BOTH, counted, events, fleet, launch, pids, ready_workers, until
from tests.serving.house import House, environment, ready_house

from ecluse.adapters.journal_reader import verify
from ecluse.testing.load import Traffic


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


@pytest.mark.parametrize("connections", [16, 64])
def test_connections_are_shared_out_evenly(house: House, connections: int) -> None:
    with fleet(house) as workers:
        time.sleep(0.5)  # the connections before are gone
        shares = ready_workers(workers, connections)
    assert all(0.4 <= shares[worker] / connections <= 0.6 for worker in BOTH), shares


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
    house: House, arguments: list[str], serving: dict[str, Any], says: str
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
            with contextlib.suppress(ProcessLookupError):  # replaced by now
                os.kill(hung, signal.SIGCONT)
