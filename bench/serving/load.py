"""Asking a server: once for every row to check its answers, then at full load by ``wrk``, or by a small client of our own without it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIENT_CPU = 1
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """Where to POST: ``bodies`` in turn, each one JSON text."""

    port: int
    path: str
    headers: Mapping[str, str]
    bodies: Sequence[str]


@dataclass(frozen=True)
class Load:
    """What one window of load measured. ``cpu_us``: CPU of all the server's processes per request, microseconds."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_us: float = 0.0


def ask_all(target: Target) -> list[Any]:
    """The parsed answer to every body, over one connection. Raises OSError while nobody listens, ValueError for any other status than 200."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
    answers = []
    try:
        for body in target.bodies:
            connection.request("POST", target.path, body, dict(target.headers))
            with connection.getresponse() as response:
                data = response.read()
            if response.status != 200:
                raise ValueError(f"{response.status}: {data[:300]!r}")
            answers.append(json.loads(data))
    finally:
        connection.close()
    return answers


def pinned(cpu: int) -> list[str]:
    """What a command begins with to run on one CPU; nothing where there is no such CPU or no ``taskset``."""
    return ["taskset", "-c", str(cpu)] if shutil.which("taskset") and cpu in os.sched_getaffinity(0) else []


def client_name() -> str:
    """Which client makes the load."""
    return "wrk" if shutil.which("wrk") else "asyncio client of bench/serving/load.py"


def load(target: Target, pid: int, connections: int, seconds: float, folder: Path) -> Load:
    """Full load for ``seconds`` from the client's CPU, and what it cost the processes under ``pid``."""
    before = cpu_seconds(pid)
    if shutil.which("wrk"):
        found = _wrk(target, connections, seconds, folder)
    else:
        job = json.dumps([target.port, target.path, dict(target.headers), list(target.bodies), connections, seconds])
        command = [*pinned(CLIENT_CPU), sys.executable, __file__]
        made = subprocess.run(command, input=job, text=True, capture_output=True, check=True)
        found = Load(**json.loads(made.stdout))
    spent = cpu_seconds(pid) - before
    return Load(found.rate, found.p50_ms, found.p99_ms, found.failed, spent / max(1, found.rate * seconds) * 1e6)


def family(pid: int) -> dict[int, list[str]]:
    """The ``stat`` fields after the name of a process, of all that descend from it and of all in its session; by pid.

    The session holds those whose parent has ended: servers that spawn workers leave such.
    """
    fields = {int(path.name): stat_of(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    fields = {each: stat for each, stat in fields.items() if stat}
    found, grown = {each for each, stat in fields.items() if each == pid or int(stat[3]) == pid}, 0
    while len(found) != grown:
        grown = len(found)
        found |= {each for each, stat in fields.items() if int(stat[1]) in found}
    return {each: fields[each] for each in found}


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its :func:`family`, and of those children of theirs that have ended."""
    return sum(int(ticks) for stat in family(pid).values() for ticks in stat[11:15]) / TICKS


def stat_of(process: Path) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` after the name, state first; none for a process that has ended."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


_LUA = """
local bodies = {%s}
local n = 0
wrk.method = "POST"
%s
init = function()
  for i, body in ipairs(bodies) do bodies[i] = wrk.format(nil, nil, nil, body) end
end
request = function()
  n = n %% #bodies + 1
  return bodies[n]
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("FOUND %%d %%d %%f %%f %%d", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def _wrk(target: Target, connections: int, seconds: float, folder: Path) -> Load:
    bodies = ",".join(f"[==[{body}]==]" for body in target.bodies)
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in target.headers.items())
    script = folder / "load.lua"
    script.write_text(_LUA % (bodies, headers))
    command = [*pinned(CLIENT_CPU), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"]
    made = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{target.port}{target.path}"], capture_output=True, text=True
    )
    found = re.search(r"FOUND (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)", made.stdout)
    if found is None:
        raise RuntimeError(f"wrk said: {made.stdout[-500:]} {made.stderr[-500:]}")
    count, micros, p50, p99, failed = (float(each) for each in found.groups())
    return Load(count / micros * 1e6, p50 / 1e3, p99 / 1e3, int(failed))


def as_requests(target: Target) -> list[bytes]:
    """Every body as the bytes of its HTTP/1.1 request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **target.headers}.items())
    return [
        f"POST {target.path} HTTP/1.1\r\n{lines}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()
        for body in target.bodies
    ]


async def keep_asking(target: Target, connections: int, seconds: float) -> Load:
    """The client without ``wrk``: each connection asks, waits for the whole answer, asks again."""
    end, times, failed = time.perf_counter() + seconds, list[float](), 0
    requests = as_requests(target)

    async def one(place: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        while (begun := time.perf_counter()) < end:
            place += 1
            writer.write(requests[place % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(size[1]) if size else 0)
            failed += not head.startswith(b"HTTP/1.1 200")
            times.append(time.perf_counter() - begun)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(place * 7) for place in range(connections)))
    took, times = time.perf_counter() - began, sorted(times)
    middle, high = times[len(times) // 2], times[len(times) * 99 // 100]
    return Load(len(times) / took, middle * 1e3, high * 1e3, failed)


def main() -> None:
    """Read a job from standard input, print what was measured as JSON."""
    port, path, headers, bodies, connections, seconds = json.load(sys.stdin)
    found = asyncio.run(keep_asking(Target(port, path, headers, bodies), connections, seconds))
    print(json.dumps(found.__dict__))


if __name__ == "__main__":
    main()
