"""What surviving a power failure costs a worker: 64 connections under each durability, beside a bare write and fdatasync on the same disk.

    .venv/bin/python -m bench.serving.power [--seconds 5] [--rounds 3] [--folder DIR]

All is written below ``--folder`` (the present one: a disk, not a tmpfs), round by round in turn; medians. The worker answers explicit
features on CPU 0, the client asks from CPU 1. The journal without HTTP is in ``bench.journal.durable``. Limits (L7): 3,000 predictions a
second, 15 ms added to the 99th percentile. Exit code 1 when one is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.journal.durable import Cost, bare
from bench.serving.churn import make_churn
from bench.serving.load import client_name
from bench.serving.ours import make_home
from bench.serving.run import Found, How, middle, window
from bench.serving.servers import ours

LEAST_RATE, MOST_ADDED_MS = 3_000, 15
TOGETHER = (1, 64)


def measure(folder: Path, how: How, trees: int = 100) -> tuple[dict[int, list[Cost]], Found]:
    """The disk's own limits by records written together, and the worker's windows by durability."""
    churn, found = make_churn(trees), Found()
    churn.write(folder / "model")
    homes = {durability: folder / durability for durability in ("process", "power")}
    servers = [ours(home, make_home(home, churn), name=name, durability=name) for name, home in homes.items()]
    disk: dict[int, list[Cost]] = {records: [] for records in TOGETHER}
    for _ in range(how.rounds):
        for records, costs in disk.items():
            costs.append(bare(folder, records, how.seconds))
        for server in servers:
            window(server, churn, folder, how, found)
    return disk, found


def table(disk: dict[int, list[Cost]], found: Found) -> str:
    """Markdown: a line for each case."""
    lines = ["| | a second | p50 ms | p99 ms | CPU µs each | not 200 |", "|---|---:|---:|---:|---:|---:|"]
    for records, costs in disk.items():
        rate, p50, p99, cpu = (middle(costs, what) for what in ("rate", "p50", "p99", "cpu"))
        lines.append(f"| bare write and fdatasync, {records} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {cpu:,.0f} | |")
    for name, loads in found.loads.items():
        rate, p50, p99, cpu = (middle(loads, what) for what in ("rate", "p50_ms", "p99_ms", "cpu_us"))
        failed = sum(each.failed for each in loads)
        lines.append(f"| worker, `{name}` | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {cpu:,.0f} | {failed} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What durability costs a worker.")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder.resolve(), prefix="power-") as name:
        disk, found = measure(Path(name), How(Path(name), given.seconds, given.rounds, given.connections))
    rate = middle(found.loads["power"], "rate")
    added = middle(found.loads["power"], "p99_ms") - middle(found.loads["process"], "p99_ms")
    print(f"client: {client_name()}, {given.connections} connections, {given.rounds} windows of {given.seconds} s\n")
    print(table(disk, found))
    print(f"\n`power`: {rate:,.0f} a second (limit {LEAST_RATE:,}), {added:+.1f} ms at p99 (limit {MOST_ADDED_MS})")
    return int(rate < LEAST_RATE or added > MOST_ADDED_MS)


if __name__ == "__main__":
    sys.exit(main())
