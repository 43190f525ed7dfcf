"""How soon a worker answers and what it keeps in memory: seconds from its start to ready, resident megabytes then and after load.

    .venv/bin/python -m bench.serving.start [--rounds 10]

A fresh process each time, on CPU 0, over the home of the comparison (one model of 100 trees, an empty online store); one start before
warms the disk's cache. Medians and worst. Limits: 1.5 s, 150 MB. Exit code 1 when a median passes one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.serving.churn import Churn, make_churn
from bench.serving.load import load
from bench.serving.ours import make_home
from bench.serving.servers import Server, end, free_port, ours, place_of, spawn, target_of

MOST_SECONDS, MOST_MB = 1.5, 150.0
LOAD_SECONDS, CONNECTIONS = 2, 64


@dataclass(frozen=True)
class Start:
    """One start: seconds from the process's start until ``/ready`` said yes; resident megabytes (10^6 bytes) then and after load."""

    seconds: float
    ready_mb: float
    loaded_mb: float


def start_once(server: Server, churn: Churn, folder: Path) -> Start:
    """Raises RuntimeError when it ends, or is not ready in 60 s."""
    port, log = free_port(), folder / "start.log"
    began = time.perf_counter()
    process = spawn(server, folder, place_of(server, folder), port, log)
    try:
        while not is_ready(port):
            if process.poll() is not None or time.perf_counter() - began > 60:
                raise RuntimeError(f"not ready: {log.read_text()[-1_500:]}")
            time.sleep(0.002)
        seconds, resident = time.perf_counter() - began, resident_mb(process)
        load(target_of(server, port, churn.rows), process.pid, CONNECTIONS, LOAD_SECONDS, folder)
        return Start(seconds, resident, resident_mb(process))
    finally:
        end(process)


def is_ready(port: int) -> bool:
    """Whether ``/ready`` says yes."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    """Megabytes of a process in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024 / 1e6


def measure(folder: Path, rounds: int, trees: int = 100) -> list[Start]:
    """``rounds`` starts after one that is not counted."""
    churn = make_churn(trees)
    server = ours(folder / "home", make_home(folder / "home", churn))
    return [start_once(server, churn, folder) for _ in range(rounds + 1)][1:]


def main() -> int:
    parser = argparse.ArgumentParser(description="How soon a worker is ready, and what it keeps in memory.")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        starts = measure(Path(folder), given.rounds)
    passed = False
    for what, unit, limit in (
        ("seconds", "s", MOST_SECONDS),
        ("ready_mb", "MB", MOST_MB),
        ("loaded_mb", "MB", MOST_MB),
    ):
        values = [getattr(each, what) for each in starts]
        median = statistics.median(values)
        passed = passed or median > limit
        print(f"{what:<10} median {median:7.2f} {unit:<2}  worst {max(values):7.2f} {unit:<2}  limit {limit:g} {unit}")
    return int(passed)


if __name__ == "__main__":
    sys.exit(main())
