"""Descriptors: a worker has one for every connection it may be asked to refuse, and without any it waits for the next."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

from tests.serving.crew import fleet, until
from tests.serving.house import ready_house, running
from tests.serving.test_connection import connect


def test_a_worker_asks_for_as_many_as_it_may_need(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with running(ready_house(tmp_path), max_connections=600) as worker:
            assert resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE)[0] >= min(1_200, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_workers_without_any_left_take_connections_again_once_there_are(tmp_path: Path) -> None:
    with fleet(ready_house(tmp_path)) as worker:
        listed = subprocess.run(["pgrep", "-P", str(worker.process.pid)], capture_output=True, text=True, check=True)
        for pid in map(int, listed.stdout.split()):
            few = len(os.listdir(f"/proc/{pid}/fd")) + 3  # noqa: PTH208 - only their number
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, few))
        waiting = [connect(worker) for _ in range(30)]
        for connection in waiting:
            connection.close()
        until("they answer", lambda: worker.predict()[0] == 200)
