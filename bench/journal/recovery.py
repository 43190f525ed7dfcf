"""How long a worker takes to open its journal after a power cut: a hundred thousand predictions, the last one torn.

    .venv/bin/python -m bench.journal.recovery [--records 100000] [--rounds 3] [--folder DIR]

Opening reads and checks the last segment, so all records are put into one: the most that can be asked of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import verify

RECORD = json.dumps(
    {"kind": "prediction", "time": "2024-01-31T00:00:00.000000Z", "inputs": {f"feature_{i}": i / 7 for i in range(30)}}
).encode()


def open_journal(root: Path) -> Journal:
    return Journal.open(root, "w1", durability="process", segment_bytes=1 << 34)


def recover(folder: Path, records: int) -> tuple[float, int]:
    """Seconds until a journal with a torn last record is open, and its bytes."""
    root = folder / "journal"
    with open_journal(root) as journal:
        for _ in range(records):
            journal.append(RECORD)
    (segment,) = (root / "w1").glob("*.seg")
    size = segment.stat().st_size
    with segment.open("r+b") as file:
        file.truncate(size - 10)
    began = time.perf_counter()
    with open_journal(root) as journal:
        seconds = time.perf_counter() - began
        journal.append(RECORD)
    assert verify(root) == []
    return seconds, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    found = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            found.append(recover(Path(folder), given.records))
    seconds = statistics.median(each for each, _ in found)
    print(f"{given.records} records, {found[0][1] / 2**20:.0f} MiB in one segment: open after {seconds:.2f} s")


if __name__ == "__main__":
    main()
