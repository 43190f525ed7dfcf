"""V3 and V4: two servers behind a load balancer are restarted one after the other under load, and no request fails; one hangs, and is left out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.serving.house import House, environment, ready_house

from ecluse.demo.server import free_port
from ecluse.testing.load import Counts, Traffic

BODIES = [{"user_id": f"u{i}", "gift": True} for i in range(10)]
HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
SCRIPT = Path(__file__).with_name("hasty_worker.py")
CHECK_MS, FALL, RATE = 100, 2, 100.0
DRAIN_WAIT = CHECK_MS * FALL / 1_000 + 1.0
CONFIG = """
global
    maxconn 200
defaults
    mode http
    retries 0
    timeout connect 2s
    timeout client 30s
    timeout server 10s
frontend all
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    balance roundrobin
    option httpchk
    http-check send meth GET uri /ready hdr Host localhost
    default-server inter {check}ms fall {fall} rise 2
    server a 127.0.0.1:{a} check
    server b 127.0.0.1:{b} check
"""


@dataclass
class Member:
    """One of the two servers, as on a machine of its own: its own home, on a port that stays."""

    house: House
    port: int
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.house.home.parent / "worker.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log, env=environment())
        end = time.monotonic() + 30
        while not self.ready():
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < end, "it is not ready"
            time.sleep(0.02)

    def ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5):
            return True
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(autouse=True)
def _balancer() -> None:
    need_haproxy()


def need_haproxy() -> None:
    """Skips the test where there is none; fails it where there must be one."""
    if HAPROXY is None:
        if os.environ.get("CI"):
            pytest.fail("this check needs haproxy")
        pytest.skip("needs haproxy")


@contextlib.contextmanager
def behind(folder: Path, defect: str = "none") -> Iterator[tuple[str, list[Member]]]:
    """The balancer's address, and the two behind it."""
    members, port = [], free_port()
    for name in ("a", "b"):
        house, own = ready_house(folder / name), free_port()
        serving = {"port": own, "poll_ms": 100, "drain_wait": DRAIN_WAIT, "drain_seconds": 2.0}
        command = [sys.executable, str(SCRIPT), defect, "--home", str(house.home), "--serving", json.dumps(serving)]
        members.append(Member(house, own, command))
    config = folder / "haproxy.cfg"
    ports = {"port": port, "a": members[0].port, "b": members[1].port}
    config.write_text(CONFIG.format(check=CHECK_MS, fall=FALL, **ports))
    with contextlib.ExitStack() as ends:
        for member in members:
            ends.callback(member.kill)
            member.start()
        with (folder / "haproxy.log").open("wb") as log:
            balancer = subprocess.Popen([str(HAPROXY), "-db", "-f", str(config)], stdout=log, stderr=log)
        ends.callback(balancer.wait)
        ends.callback(balancer.kill)
        time.sleep(CHECK_MS * 5 / 1_000)
        yield f"http://127.0.0.1:{port}", members


def roll(folder: Path, restarts: int, defect: str = "none", *, between: int = 0) -> tuple[Counts, list[int]]:
    """What callers got while the servers were restarted in turn, each after ``between`` more requests at least, and the exit codes."""
    with behind(folder, defect) as (url, members), Traffic(url, BODIES, connections=8, rate=RATE) as traffic:
        assert traffic.wait_for(50)
        codes = []
        for turn in range(restarts):
            member = members[turn % 2]
            codes.append(member.stop())
            member.start()
            time.sleep(CHECK_MS * 4 / 1_000)  # the balancer has seen it rise
            assert traffic.wait_for((turn + 1) * between)
        traffic.stop()
        for member in members:
            member.stop()
        kept = sum(len(member.house.records()) for member in members)
    if not traffic.counts.failed:
        assert kept == traffic.counts.sent, "each answer is in a journal, and nothing else is"
    return traffic.counts, codes


@pytest.mark.slow
def test_two_restarts_fail_no_request(tmp_path: Path) -> None:
    counts, codes = roll(tmp_path, 2)
    assert (counts.failed, codes) == (0, [0, 0]), counts.codes
    assert counts.sent > 200


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_twenty_restarts_fail_no_request(tmp_path: Path) -> None:
    counts, codes = roll(tmp_path, 20, between=1_000)
    print(f"V3: 20 restarts, {counts.sent} requests, {counts.failed} failed")
    assert (counts.failed, codes) == (0, [0] * 20), counts.codes
    assert counts.sent >= 20_000


def test_a_server_that_ends_at_once_is_found_out(tmp_path: Path) -> None:
    counts, _ = roll(tmp_path, 2, defect="hasty")
    assert counts.failed > 0


def test_a_server_that_hangs_is_left_out_within_three_seconds(tmp_path: Path) -> None:
    with behind(tmp_path) as (url, members):
        hung = members[0].process
        assert hung is not None
        hung.send_signal(signal.SIGSTOP)
        try:
            time.sleep(3.0)
            served = len(members[1].house.records())
            with Traffic(url, BODIES, connections=4) as traffic:
                assert traffic.wait_for(40)
            assert traffic.counts.failed == 0, traffic.counts.codes
            assert len(members[1].house.records()) == served + traffic.counts.sent
        finally:
            hung.send_signal(signal.SIGCONT)
