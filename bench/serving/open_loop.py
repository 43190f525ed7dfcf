"""Asking at a rate, whether or not the server has answered: what a request waits when a server is loaded by half.

``wrk`` sends the next request when an answer is there, so a server that stalls is asked less; ``h2load --rps`` paces each connection, and
counts from the moment a request was sent. Here requests are due at moments fixed beforehand and the wait counts from the due moment, also
while it waits for a free connection. One process, raw sockets, polling without sleeping: it needs its CPU for itself.
"""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.serving.load import CLIENT_CPU, Target, as_requests, pinned

Arrivals = Literal["steady", "poisson"]
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Waits:
    """What one window measured: requests a second asked for, the wait's median and 99th percentile from the due moment, the 99th percentile of
    how much later than due the client itself sent (all milliseconds), and answers other than 200.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    late_ms: float
    failed: int


def ask_at(target: Target, rate: float, seconds: float, arrivals: Arrivals, *, connections: int = 64) -> Waits:
    """One window from the client's CPU, in a process of its own. Raises CalledProcessError when the server stops answering."""
    job = [target.port, target.path, dict(target.headers), list(target.bodies), rate, seconds, arrivals, connections]
    command = [*pinned(CLIENT_CPU), sys.executable, __file__]
    made = subprocess.run(command, input=json.dumps(job), text=True, capture_output=True)
    if made.returncode:
        raise RuntimeError(f"the client at a rate ended with {made.returncode}: {made.stderr[-500:]}")
    return Waits(**json.loads(made.stdout))


def due_moments(rate: float, seconds: float, arrivals: Arrivals) -> list[float]:
    """When requests are due, seconds from the start: evenly, or at random with the same mean (seeded)."""
    count = max(1, int(rate * seconds))
    if arrivals == "steady":
        return [i / rate for i in range(count)]
    rng, now, moments = random.Random(0), 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        moments.append(now)
    return moments


def run(target: Target, due: list[float], connections: int) -> tuple[list[float], list[float], int]:
    """Seconds each request waited, seconds each was sent late by the client while a connection was free, and answers other than 200."""
    requests, count = as_requests(target), len(due)
    idle = deque(socket.create_connection(("127.0.0.1", target.port)) for _ in range(connections))
    by_number = {each.fileno(): each for each in idle}
    poll = select.epoll()
    for each in idle:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(each, select.EPOLLIN)
    waits, late, failed = list[float](), list[float](), 0
    asked, parts = dict[int, float](), dict[int, bytes]()
    clock, sent, free_since = time.perf_counter, 0, 0.0
    begun = clock() + 0.01
    end = begun + due[-1] + PATIENCE_SECONDS
    while len(waits) < count:
        now = clock() - begun
        while sent < count and idle and due[sent] <= now:
            connection = idle.popleft()
            late.append(now - max(due[sent], free_since))
            asked[connection.fileno()] = due[sent]
            connection.send(requests[sent % len(requests)])
            sent += 1
            now = clock() - begun
        for number, _ in poll.poll(0):
            data = parts.pop(number, b"") + by_number[number].recv(65_536)
            if not is_whole(data):
                parts[number] = data
                continue
            now = clock() - begun
            waits.append(now - asked[number])
            failed += not data.startswith(b"HTTP/1.1 200")
            if not idle:
                free_since = now
            idle.append(by_number[number])
        if now + begun > end:
            raise SystemExit(f"{count - len(waits)} of {count} requests without an answer")
    return waits, late, failed


def is_whole(data: bytes) -> bool:
    r"""Whether an answer has come to its end. Raises SystemExit when the server has closed.

    >>> [is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + rest) for rest in (b"", b"{}")]
    [False, True]
    """
    if not data:
        raise SystemExit("the server closed a connection")
    head, gap, rest = data.partition(b"\r\n\r\n")
    if not gap:
        return False
    return len(rest) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)


def main() -> None:
    """Read a job from standard input, print what was measured as JSON."""
    port, path, headers, bodies, rate, seconds, arrivals, connections = json.load(sys.stdin)
    due = due_moments(rate, seconds, arrivals)
    gc.disable()
    waits, late, failed = run(Target(port, path, headers, bodies), due, connections)
    waits.sort()
    late.sort()
    high = len(waits) * 99 // 100
    print(json.dumps(Waits(rate, waits[len(waits) // 2] * 1e3, waits[high] * 1e3, late[high] * 1e3, failed).__dict__))


if __name__ == "__main__":
    main()
