"""One row over HTTP, every server in turn on one core: requests a second, latency, CPU a request; medians of interleaved rounds.

    .venv/bin/python -m bench.serving.run [--peers fastapi,fastapi-onnx,mlflow] [--seconds 5] [--rounds 3]

Servers run on CPU 0, the client on CPU 1. Peers get virtual environments of their own under --cache (or ECLUSE_BENCH_CACHE), built on
first use. All 64 answers of every server are held against scikit-learn's before any load. Prints a table; --out appends it to a file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.serving.churn import Churn, make_churn
from bench.serving.load import Load, client_name, load
from bench.serving.servers import PEERS, Server, ours, place_of, started, static, versions


def measure(
    servers: Sequence[Server], churn: Churn, folder: Path, *, cache: Path, seconds: float, rounds: int, connections: int
) -> dict[str, list[Load]]:
    """``rounds`` windows of each server, in turn. Servers not being asked wait idle."""
    found = {server.name: list[Load]() for server in servers}
    churn.write(folder / "model")
    with contextlib.ExitStack() as running:
        targets = {
            server.name: running.enter_context(started(server, churn, folder / "model", place_of(server, cache)))
            for server in servers
        }
        for name, (target, pid) in targets.items():
            load(target, pid, connections, min(1, seconds), folder)
            print(f"{name} is warm", flush=True)
        for _ in range(rounds):
            for name, (target, pid) in targets.items():
                window = load(target, pid, connections, seconds, folder)
                found[name].append(window)
                print(f"{name}: {window}", flush=True)
    return found


def table(servers: Sequence[Server], found: dict[str, list[Load]], cache: Path) -> str:
    """Markdown: a line for each server, and how many times the rate of each peer is ours."""
    middle = {
        name: [statistics.median(getattr(each, what) for each in loads) for what in Load.__dataclass_fields__]
        for name, loads in found.items()
    }
    mine = middle["ecluse"][0]
    lines = [
        "| server | requests/s | p50 ms | p99 ms | CPU µs a request | not 200 | Écluse is | versions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for server in servers:
        rate, p50, p99, _, cpu = middle[server.name]
        failed = sum(each.failed for each in found[server.name])
        lines.append(
            f"| {server.title} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {cpu:,.0f} | {failed} | {mine / rate:.2f}× "
            f"| {versions(server, place_of(server, cache))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what one row over HTTP costs.")
    parser.add_argument("--peers", default="fastapi,fastapi-onnx,mlflow", help="comma-separated; empty for none")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    default = os.environ.get("ECLUSE_BENCH_CACHE") or Path.home() / ".cache" / "ecluse-bench"
    parser.add_argument("--cache", type=Path, default=Path(default))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    wanted = [name for name in given.peers.split(",") if name]
    if unknown := set(wanted) - {peer.name for peer in PEERS}:
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(peer.name for peer in PEERS)}")
    with tempfile.TemporaryDirectory() as folder:
        churn = make_churn()
        servers = [ours(Path(folder) / "home", churn), static(), *(peer for peer in PEERS if peer.name in wanted)]
        how = {"seconds": given.seconds, "rounds": given.rounds, "connections": given.connections}
        found = measure(servers, churn, Path(folder), cache=given.cache, **how)
    text = (
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs; client: {client_name()}, "
        f"{given.connections} connections, medians of {given.rounds} windows of {given.seconds:g} s.\n\n"
        f"{table(servers, found, given.cache)}\n"
    )
    print(text)
    if given.out:
        with given.out.open("a") as stream:
            stream.write(text)


if __name__ == "__main__":
    main()
