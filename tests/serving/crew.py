"""Several workers under a supervisor, as tests see them: starting and ending them, who they are, what they log."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.serving.house import House, Worker, environment

BODIES = [{"user_id": f"u{i}", "gift": True} for i in range(10)]
BOTH = ("w1", "w2")
PATIENT = "import sys, ecluse.supervisor as s; s.HUNG_SECONDS = float(sys.argv.pop(1)); sys.exit(s.main())"


def launch(
    house: House, *arguments: str, log: Path, patience: float | None = None, **serving: Any
) -> subprocess.Popen[str]:
    settings = {"poll_ms": 50, "port": 0, "drain_seconds": 2.0, "workers": 2, **serving}
    program = ["-m", "ecluse.supervisor"] if patience is None else ["-c", PATIENT, str(patience)]
    command = [sys.executable, *program, "--home", str(house.home)]
    with log.open("w") as stream:
        return subprocess.Popen(
            [*command, "--serving", json.dumps(settings), *arguments], stderr=stream, text=True, env=environment()
        )


@contextlib.contextmanager
def fleet(house: House, patience: float | None = None, **serving: Any) -> Iterator[Worker]:
    """Two ready workers; the process is their supervisor's, which waits so long for a word of one that hangs."""
    lock, log = house.home / "serve.lock", house.home.parent / f"fleet-{time.monotonic_ns()}.log"
    lock.unlink(missing_ok=True)
    process = launch(house, log=log, patience=patience, **serving)
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


def counted(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for worker, value in re.findall(r'ecluse_requests_total\{worker="(\w+)",[^}]*route="/predict".*\} (\S+)', text):
        found[worker] += int(float(value))
    return found
