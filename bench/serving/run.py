"""One row over HTTP, every server in turn on one core: requests a second, latency, CPU a request; medians of interleaved rounds.

    .venv/bin/python -m bench.serving.run [--peers all] [--seconds 5] [--rounds 3] [--half-load] [--workers 2]
    .venv/bin/python -m bench.serving.run --entity

Servers run on CPU 0, the client on CPU 1; each is started for its window alone and ended after it, so that no idle one takes time from
another. Peers get virtual environments of their own under --cache (or ECLUSE_BENCH_CACHE), built on first use; one that cannot be built or
started, or answers wrongly, is told and left out. All answers of every server are held against scikit-learn's before any load.

--half-load asks ours and the static answer also at half the rate just measured, whether or not they have answered (``open_loop.py``).
--workers N adds Écluse with N workers on the same core, and each one's share. --entity compares 14 features in the request with an entity
key and 4 views in SQLite and in Redis (``entity.py``) instead of the peers. Prints tables; --out appends them to a file.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.serving.churn import Churn, make_churn
from bench.serving.entity import entity_servers, make_subscribers, redis_stores
from bench.serving.load import Load, client_name, load
from bench.serving.open_loop import Arrivals, Waits, ask_at
from bench.serving.ours import make_home
from bench.serving.peers import PEERS
from bench.serving.servers import Server, ours, place_of, started, static, versions
from bench.serving.shares import shares, workers_of

BROKEN = (RuntimeError, ValueError, LookupError, TypeError, OSError, subprocess.SubprocessError)
"""What a peer may do wrong: no build, no start, no answer, another answer."""
WARM_SECONDS = 2.0
ARRIVALS: tuple[Arrivals, ...] = ("steady", "poisson")


@dataclass(frozen=True)
class How:
    """How every server is asked. ``half``: the names of those also asked at half their rate; ``workers``: as many as one of ours has, so that
    our one worker is also asked by its share of the connections.
    """

    cache: Path
    seconds: float
    rounds: int
    connections: int
    half: tuple[str, ...] = ()
    workers: int = 1


@dataclass
class Found:
    """What was measured, by server; ``broken`` says why one is missing."""

    loads: dict[str, list[Load]] = field(default_factory=dict)
    waits: dict[tuple[str, Arrivals], list[Waits]] = field(default_factory=dict)
    shares: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    share_loads: list[Load] = field(default_factory=list)  # one worker asked by its share of the connections
    full_loads: list[Load] = field(default_factory=list)  # several workers asked by as many each as one alone
    broken: dict[str, str] = field(default_factory=dict)


def measure(servers: Sequence[Server], churn: Churn, folder: Path, how: How) -> Found:
    """``rounds`` windows of each server, in turn. Only peers may be broken: ours and the limit raise what went wrong."""
    found = Found()
    churn.write(folder / "model")
    for _ in range(how.rounds):
        for server in servers:
            if server.name in found.broken:
                continue
            try:
                window(server, churn, folder, how, found)
            except BROKEN as error:
                if not server.packages:
                    raise
                found.broken[server.name] = f"{type(error).__name__}: {error}"
                print(f"{server.name} is left out: {found.broken[server.name]}", flush=True)
    return found


def window(server: Server, churn: Churn, folder: Path, how: How, found: Found) -> None:
    """Start it, warm it, one window of full load and those at half of it, end it."""
    with started(server, churn, folder / "model", place_of(server, how.cache)) as (target, pid):
        if how.seconds >= WARM_SECONDS:
            load(target, pid, how.connections, WARM_SECONDS, folder)
        before = workers_of(target, server.workers) if server.workers > 1 else {}
        full = load(target, pid, how.connections, how.seconds, folder)
        found.loads.setdefault(server.name, []).append(full)
        print(f"{server.name}: {full}", flush=True)
        if server.workers > 1:
            found.shares.setdefault(server.name, []).append(shares(before, workers_of(target, server.workers)))
            found.full_loads.append(load(target, pid, how.connections * server.workers, how.seconds, folder))
        if server.name == "ecluse" and how.workers > 1:
            found.share_loads.append(load(target, pid, how.connections // how.workers, how.seconds, folder))
        for arrivals in ARRIVALS if server.name in how.half else ():
            waits = ask_at(target, full.rate / 2, how.seconds, arrivals)
            found.waits.setdefault((server.name, arrivals), []).append(waits)
            print(f"{server.name}: {waits}", flush=True)


def middle(values: Sequence[Any], what: str) -> float:
    """The median of an attribute."""
    return float(statistics.median(getattr(each, what) for each in values))


def table(servers: Sequence[Server], found: Found, cache: Path) -> str:
    """Markdown: a line for each server; the first one's rate, and its CPU, beside that of each."""
    first = found.loads[servers[0].name]
    lines = [
        "| server | requests/s | p50 ms | p99 ms | CPU µs a request | not 200 | first row’s rate ÷ its | its CPU ÷ first row’s | versions |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for server in servers:
        if server.name in found.broken:
            lines.append(
                f"| {server.title} | left out: {found.broken[server.name].splitlines()[0][:200]} | | | | | | | |"
            )
            continue
        loads = found.loads[server.name]
        rate, p50, p99, cpu = (middle(loads, what) for what in ("rate", "p50_ms", "p99_ms", "cpu_us"))
        ratio, costs = middle(first, "rate") / rate, cpu / middle(first, "cpu_us")
        failed = sum(each.failed for each in loads)
        lines.append(
            f"| {server.title} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {cpu:,.0f} | {failed} | {ratio:.2f}× | {costs:.2f}× "
            f"| {versions(server, place_of(server, cache))} |"
        )
    return "\n".join(lines)


def half_table(found: Found) -> str:
    """Markdown: what a request waits at half load, and the first server's p99 beside that of the second."""
    lines = [
        "| at half load | arrivals | requests/s | p50 ms | p99 ms | client late, p99 ms | not 200 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (name, arrivals), waits in found.waits.items():
        rate, p50, p99, late = (middle(waits, what) for what in ("rate", "p50_ms", "p99_ms", "late_ms"))
        failed = sum(each.failed for each in waits)
        lines.append(f"| {name} | {arrivals} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {late:.2f} | {failed} |")
    for arrivals in ARRIVALS:
        mine, limit = (middle(found.waits[name, arrivals], "p99_ms") for name in ("ecluse", "static"))
        lines.append(f"\np99 of ours to the static answer's, {arrivals}: {mine / limit:.2f}× (limit 2×)")
    return "\n".join(lines)


def shares_text(found: Found) -> Iterable[str]:
    """A line for each server with several workers: what each took, and the CPU a request to that of one worker."""
    for name, each in found.shares.items():
        took = ", ".join(f"{worker} {statistics.median(one[worker] for one in each):.0%}" for worker in each[0])
        costs, one = middle(found.loads[name], "cpu_us"), middle(found.loads["ecluse"], "cpu_us")
        yield (
            f"{name}: shares {took} (asked: 40 to 60 % of two); CPU a request {costs / one:.2f}× of one worker's (limit 1.1×), "
            f"{costs / middle(found.share_loads, 'cpu_us'):.2f}× of one worker's that is asked by its share of the connections, "
            f"{middle(found.full_loads, 'cpu_us') / one:.2f}× when each has as many connections as that one"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare what one row over HTTP costs.")
    parser.add_argument("--peers", default="all", help="comma-separated, or all; empty for none")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--half-load", action="store_true", help="ours and the static answer also at half their rate")
    parser.add_argument("--workers", type=int, default=1, help="more than 1: Écluse with so many workers too")
    parser.add_argument("--entity", action="store_true", help="entity keys from SQLite and Redis instead of the peers")
    default = os.environ.get("ECLUSE_BENCH_CACHE") or Path.home() / ".cache" / "ecluse-bench"
    parser.add_argument("--cache", type=Path, default=Path(default))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    names = [peer.name for peer in PEERS]
    given.peers = names if given.peers == "all" else [name for name in given.peers.split(",") if name]
    if unknown := set(given.peers) - set(names):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return given


def compare_peers(given: argparse.Namespace, folder: Path) -> str:
    """The tables of the comparison with the peers."""
    churn = make_churn()
    servers = [ours(folder / "home", make_home(folder / "home", churn)), static(), static(uvicorn=True)]
    if given.workers > 1:
        home, more = folder / "home-of-more", {"name": f"ecluse-{given.workers}", "workers": given.workers}
        servers.append(
            ours(home, make_home(home, churn), title=f"Écluse, {given.workers} workers on the same core", **more)
        )
    servers += [peer for peer in PEERS if peer.name in given.peers]
    half = ("ecluse", "static") if given.half_load else ()
    found = measure(
        servers, churn, folder, How(given.cache, given.seconds, given.rounds, given.connections, half, given.workers)
    )
    parts = [table(servers, found, given.cache), *([half_table(found)] if half else []), *shares_text(found)]
    return "\n\n".join(parts)


def compare_entity(given: argparse.Namespace, folder: Path) -> str:
    """The table of explicit features beside entity keys."""
    churn = make_subscribers()
    with redis_stores(folder) as redis:
        servers = entity_servers(folder, churn, redis)
        found = measure(servers, churn, folder, How(given.cache, given.seconds, given.rounds, given.connections))
    rates = {name: middle(loads, "rate") for name, loads in found.loads.items()}
    told = "; ".join(
        f"{name} {rates[name] / rates['explicit']:.2f} of explicit (asked: {asked})"
        for name, asked in (("sqlite", 0.70), ("redis", 0.40))
    )
    return f"{table(servers, found, given.cache)}\n\n{told}"


def main() -> None:
    given = parse()
    with tempfile.TemporaryDirectory() as folder:
        made = (compare_entity if given.entity else compare_peers)(given, Path(folder))
    text = (
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[1]:.1f}; "
        f"client: {client_name()}, {given.connections} connections, medians of {given.rounds} windows of {given.seconds:g} s.\n\n"
        f"{made}\n"
    )
    print(text)
    if given.out:
        with given.out.open("a") as stream:
            stream.write(text)


if __name__ == "__main__":
    main()
