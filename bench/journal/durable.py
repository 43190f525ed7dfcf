"""What durability costs on this disk: a bare write and fdatasync, and the journal alone, side by side.

    .venv/bin/python -m bench.journal.durable [--seconds 3] [--rounds 3] [--folder DIR] [--json]

All of it writes below ``--folder`` (the present one: a disk, not a tmpfs). Rounds take every case in turn; medians are printed. What it
costs a worker that answers is measured by ``bench.serving.power``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_group import GroupJournal
from ecluse.adapters.journal_reader import verify

RECORD = json.dumps(
    {"kind": "prediction", "time": "2024-01-31T00:00:00.000000Z", "inputs": {f"feature_{i}": i / 7 for i in range(30)}}
).encode()


@dataclass(frozen=True)
class Cost:
    """Records a second, milliseconds until a record was acknowledged (median, 99th percentile), a record's CPU microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


def cost(waits: list[float], seconds: float, cpu: float) -> Cost:
    ordered, count = sorted(waits), len(waits)
    return Cost(count / seconds, ordered[count // 2] * 1e3, ordered[count * 99 // 100] * 1e3, cpu / count * 1e6)


def timed(work: Callable[[], object], records: int, seconds: float) -> Cost:
    """Repeat ``work``, which keeps so many records each time."""
    waits: list[float] = []
    cpu = time.process_time()
    end = (start := time.perf_counter()) + seconds
    while (before := time.perf_counter()) < end:
        work()
        waits += [time.perf_counter() - before] * records
    return cost(waits, time.perf_counter() - start, time.process_time() - cpu)


def bare(folder: Path, records: int, seconds: float) -> Cost:
    """The disk's own limit: one write of so many records, one fdatasync."""
    data = RECORD * records
    fd = os.open(folder / f"bare-{records}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work() -> None:
        os.write(fd, data)
        os.fdatasync(fd)

    try:
        return timed(work, records, seconds)
    finally:
        os.close(fd)


def one_by_one(folder: Path, durability: str, seconds: float) -> Cost:
    with Journal.open(folder, f"single-{durability}", durability=durability) as journal:  # type: ignore[arg-type]
        return timed(partial(journal.append, RECORD), 1, seconds)


def grouped(folder: Path, requests: int, seconds: float) -> Cost:
    """So many requests at a time on one event loop, each waiting for its own record."""
    journal = GroupJournal(Journal.open(folder, f"group-{requests}", durability="power"))
    waits: list[float] = []

    async def request(end: float) -> None:
        while (before := time.perf_counter()) < end:
            mark = journal.mark
            journal.append(RECORD)
            await journal.durable(mark)
            waits.append(time.perf_counter() - before)

    async def all_of_them() -> float:
        start = time.perf_counter()
        await asyncio.gather(*(request(start + seconds) for _ in range(requests)))
        return time.perf_counter() - start

    try:
        cpu = time.process_time()
        return cost(waits, asyncio.run(all_of_them()), time.process_time() - cpu)
    finally:
        journal.close()
        if problems := verify(folder):
            raise SystemExit(str(problems[0]))


def cases(folder: Path, seconds: float) -> dict[str, Callable[[], Cost]]:
    return {
        "bare write and fdatasync, 1 record": lambda: bare(folder, 1, seconds),
        "bare write and fdatasync, 64 records": lambda: bare(folder, 64, seconds),
        "journal, fdatasync for each record": lambda: one_by_one(folder, "power", seconds),
        "journal, power, 1 request at a time": lambda: grouped(folder, 1, seconds),
        "journal, power, 16 requests at a time": lambda: grouped(folder, 16, seconds),
        "journal, power, 64 requests at a time": lambda: grouped(folder, 64, seconds),
        "journal, process": lambda: one_by_one(folder, "process", seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, list[Cost]] = {}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder, prefix="durable-") as name:
            for case, run in cases(Path(name), given.seconds).items():
                found.setdefault(case, []).append(run())
    medians = {
        case: Cost(
            *(statistics.median(getattr(each, part) for each in costs) for part in ("rate", "p50", "p99", "cpu"))
        )
        for case, costs in found.items()
    }
    if given.json:
        print(json.dumps({case: vars(each) for case, each in medians.items()}, indent=2))
        return
    print(f"{'':<40}{'records/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}")
    for case, each in medians.items():
        print(f"{case:<40}{each.rate:>10,.0f}{each.p50:>9.2f}{each.p99:>9.2f}{each.cpu:>9.1f}")


if __name__ == "__main__":
    main()
