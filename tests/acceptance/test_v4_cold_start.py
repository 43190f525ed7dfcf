"""V4: a worker that starts says it is ready when it can answer rightly and not before; behind a balancer no caller notices a start."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.plane_house import BODIES, SCRIPT, check, percentile
from tests.acceptance.test_v3_rolling_restart import need_haproxy, roll
from tests.serving.house import House, environment, ready_house

from ecluse.demo.server import free_port

FIRST = ("starting", "no_production_version", "version_not_loaded", "log_unavailable", "feature_store_unavailable")


@dataclass
class Start:
    """One start: how long until ready, and what callers got before and after they could know of it."""

    seconds: float = 0.0
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[str, Any]:
    """What came of it, "ok", a problem's code or the name of a connection error; and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            answer = json.loads(response.read())
        return "ok" if response.status == 200 else str(answer["code"]), answer
    except OSError as error:
        return type(error).__name__, None
    finally:
        connection.close()


def cold_start(house: House, defect: str = "none", *, calls: int = 20) -> Start:
    """Callers ask for predictions from before the port is bound; another asks /ready until it says yes."""
    found, port = Start(), free_port()
    serving = {"port": port, "poll_ms": 50, "drain_seconds": 1.0}
    command = [sys.executable, str(SCRIPT), defect, "--home", str(house.home), "--serving", json.dumps(serving)]
    told, enough = threading.Event(), threading.Event()

    def call(body: dict[str, Any]) -> None:
        while not enough.is_set():
            known = told.is_set()  # before it is sent
            code, answer = ask(port, "POST", "/predict", body)
            if code == "ok":
                try:
                    check(body, answer)
                except AssertionError:
                    code = "wrong"
            (found.after if known else found.before)[code] += 1
            if answer is None:
                time.sleep(0.002)  # nobody listens yet: leave it the processor

    with (house.home.parent / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=environment())
    callers = [threading.Thread(target=call, args=(body,)) for body in BODIES[1:4]]
    began = time.monotonic()
    try:
        for caller in callers:
            caller.start()
        while ask(port, "GET", "/ready")[0] != "ok":
            assert time.monotonic() < began + 30, "it is not ready"
        told.set()
        found.seconds = time.monotonic() - began
        end = time.monotonic() + 10
        while found.after.total() < calls and time.monotonic() < end:
            time.sleep(0.005)
    finally:
        enough.set()
        for caller in callers:
            caller.join()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
    return found


def starts(folder: Path, number: int, defect: str = "none") -> list[Start]:
    """The same house started again and again; every second time without anything remembered of the times before."""
    house, found = ready_house(folder), []
    for turn in range(number):
        if turn % 2 == 0:
            shutil.rmtree(house.home / "cache", ignore_errors=True)
        found.append(cold_start(house, defect))
    return found


def hold(found: list[Start]) -> None:
    before, after = Counter[str](), Counter[str]()
    for start in found:
        before.update(start.before)
        after.update(start.after)
    seconds = [start.seconds for start in found]
    print(
        f"V4: {len(found)} cold starts, ready after {percentile(seconds, 0.5):.0f} ms (median), {1_000 * max(seconds):.0f} ms at most; "
        f"before {dict(before)}, after {dict(after)}"
    )
    assert set(before) <= {"ok", "ConnectionRefusedError", "ConnectionResetError", *FIRST}, "right, or refused"
    assert set(after) == {"ok"}, "whoever asks once it is ready gets the right answer"
    assert all(start.after.total() >= 20 for start in found)


def test_it_is_not_ready_before_it_answers_rightly(tmp_path: Path) -> None:
    hold(starts(tmp_path, 4))


@pytest.mark.nightly
def test_fifty_starts_are_not_ready_before_they_answer_rightly(tmp_path: Path) -> None:
    hold(starts(tmp_path, 50))


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_fifty_starts_behind_a_balancer_fail_nothing(tmp_path: Path) -> None:
    need_haproxy()
    counts, codes = roll(tmp_path, 50)
    print(f"V4: 50 starts behind haproxy, {counts.sent} requests, {counts.failed} failed")
    assert (counts.failed, codes) == (0, [0] * 50), counts.codes


def test_a_worker_that_is_ready_when_it_listens_is_found_out(tmp_path: Path) -> None:
    """The planted defect: ready as soon as the port is bound."""
    house = ready_house(tmp_path)
    after = Counter[str]()
    for _ in range(3):
        after.update(cold_start(house, "at bind").after)
        shutil.rmtree(house.home / "cache")
    assert after["starting"] > 0, after
