"""The journal's rows to a drift verdict: Écluse from the journal's bytes, cold and again, and Evidently from the same records and from columns.

    .venv/bin/python bench/monitoring/rows.py [--rows 1000000] [--rounds 3] [--cache DIR]

20 inputs (14 numbers, 4 categories, 2 booleans) of entities, one of the numbers moved by half a deviation. Écluse is a fresh process a round:
seconds of reading, checking each payload's hash, parsing, counting and judging, with the peak memory of both its processes; and the seconds for
the same columns in memory. With ``--cache`` Evidently is installed there once, in an environment of its own. It cannot read a journal: it is given
what ``ecluse journal export`` makes of it, as JSON lines and as Parquet (the export is not counted), and the columns as they lie in memory. CPU
seconds stand beside wall seconds: on a busy machine only they can be compared.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import read
from ecluse.core.codec import canonical, from_plain
from ecluse.core.loop_settings import Monitoring
from ecluse.core.recipe import Split
from ecluse.loop.journal import export
from ecluse.loop.panes import Question, Version, count_segments
from ecluse.monitoring.drift.counts import count_values
from ecluse.monitoring.sketch import Sketch
from ecluse.monitoring.watch import judge
from ecluse.stats.reference import Kind, describe

HERE = Path(__file__).resolve().parent
TRAINED = 50_000
PLANS = ["Basic", "Gold", "Silver"]


class Took(NamedTuple):
    """Seconds by the clock and of CPU."""

    wall: float
    cpu: float


def columns(rows: int, seed: int, moved: float) -> dict[str, Any]:
    """The inputs of so many rows."""
    rng = np.random.default_rng(seed)
    numbers = {f"number_{i:02d}": (rng.normal(size=rows) + (moved if i == 0 else 0.0)).round(6) for i in range(14)}
    categories = {f"category_{i}": rng.choice(PLANS, rows, p=[0.5, 0.2, 0.3]) for i in range(4)}
    return numbers | categories | {f"flag_{i}": rng.random(rows) < 0.4 for i in range(2)}


def kind_of(name: str) -> Kind:
    """By its name."""
    return "number" if name.startswith("number") else "category" if name.startswith("category") else "boolean"


def write_journal(root: Path, inputs: dict[str, Any]) -> None:
    """Every row as a prediction, as a worker writes it."""
    names, rows = list(inputs), len(next(iter(inputs.values())))
    batch = []
    with Journal.open(root, "w1", durability="process") as journal:
        for i, row in enumerate(zip(*(each.tolist() for each in inputs.values()), strict=True)):
            batch.append(msgspec.json.encode(_record(i, rows, dict(zip(names, row, strict=True)))))
            if len(batch) == 5_000 or i == rows - 1:
                journal.append_many(batch)
                batch = []


def _record(number: int, rows: int, inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "prediction",
        "id": f"w1-t-{number}",
        "request_id": f"{number:032x}",
        "time": f"2024-01-{1 + number * 28 // rows:02d}T00:00:00.{number % 1_000_000:06d}Z",
        "model": "churn",
        "version": 1,
        "arm": "champion",
        "propensity": 1.0,
        "entity": f"u{number}",
        "as_of": "2024-01-31T00:00:00.000000Z",
        "inputs": inputs,
        "moments": {"usage": "2024-01-31T00:00:00.000000Z"},
        "score": number % 997 / 997,
        "scores": None,
        "threshold": 0.5,
        "decision": True,
        "unseen": (),
        "degraded": (),
        "latency_us": 120,
    }


def once(place: Path) -> dict[str, Any]:
    """One cold look and one more, in this process."""
    question = from_plain(Question, json.loads((place / "question.json").read_bytes()))
    segments = JournalArchive(place / "journal").segments()
    shutil.rmtree(place / "cache", ignore_errors=True)
    before = time.process_time()
    looks, drifted, spent = [], (), []
    for _ in range(2):
        began = time.perf_counter()
        pane = count_segments(place, segments, question)
        assert pane is not None
        watched = judge(question.versions[0].reference, pane.sketches[0], Monitoring())
        looks.append(time.perf_counter() - began)
        drifted = watched.drifted
        usage = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(sum(each.ru_utime + each.ru_stime for each in usage) - before)
    return {
        "cold": looks[0],
        "again": looks[1],
        "cold_cpu": spent[0],
        # a child begins with its parent's high-water mark: ours is read where the kernel starts it anew
        "peak_mb": [_high_water(), usage[1].ru_maxrss / 1024],
        "drifted": drifted,
        "rows": pane.answers[0][1],
    }


def in_memory(question: Question, inputs: dict[str, Any]) -> float:
    """CPU seconds to count and judge the same columns as they lie in memory, in one process: what Evidently is timed for."""
    rows = len(next(iter(inputs.values())))
    lists = {name: each if kind_of(name) == "number" else each.tolist() for name, each in inputs.items()}
    began = time.process_time()
    reference = question.versions[0].reference
    counts = {name: count_values(reference.features[name], values) for name, values in lists.items()}
    judge(reference, Sketch("churn", 1, rows, columns=counts), Monitoring())
    return time.process_time() - began


def _median(found: list[dict[str, Any]], name: str) -> float:
    return statistics.median(each[name] for each in found)


def _high_water() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def evidently(cache: Path, place: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """What it took from each source; installed once."""
    home = cache / "peer-evidently"
    python = str(home / "bin" / "python")
    if not (home / "bin" / "evidently").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", "evidently", "pandas<3", "pyarrow"], check=True)
    shown = "from importlib.metadata import version; print(version('evidently'))"
    print("evidently", subprocess.run([python, "-c", shown], check=True, capture_output=True, text=True).stdout.strip())
    files = {"lines": "journal.jsonl", "parquet": "journal.parquet", "columns": "current.csv"}
    found = {}
    for source, name in files.items():
        command = [python, str(HERE / "peer_evidently.py"), source, str(place / "reference.csv"), str(place / name)]
        done = subprocess.run([*command, str(rounds)], check=True, capture_output=True, text=True)
        found[source] = json.loads(done.stdout.splitlines()[-1])
        print(f"evidently from {source}", json.dumps(found[source]), flush=True)
    return found


def compare(cold: Took, held: float, theirs: dict[str, dict[str, Any]]) -> None:
    """How many times ours Evidently took."""
    for source, told in theirs.items():
        rounds = zip(told["read"], told["report"], told["read_cpu"], told["report_cpu"], strict=True)
        pairs = [(read + report, read_cpu + report_cpu) for read, report, read_cpu, report_cpu in rounds]
        took = Took(*(statistics.median(each) for each in zip(*pairs, strict=True)))
        line = f"evidently from {source}: median {took.wall:.2f} s, {took.cpu:.2f} s of CPU, {told['peak_mb']:,.0f} MB"
        print(
            f"{line}; {took.wall / cold.wall:.1f} times ours from the journal by the clock, {took.cpu / cold.cpu:.1f} by CPU"
        )
    report = statistics.median(theirs["columns"]["report_cpu"])
    print(f"on the same columns in memory: {report / held:.1f} times ours by CPU")


def main() -> None:
    """Make the rows, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(once(asked.once)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trained, served = columns(TRAINED, 0, 0.0), columns(asked.rows, 1, 0.5)
        kinds = {name: kind_of(name) for name in trained}
        scores = np.random.default_rng(2).random(TRAINED)
        reference = describe(trained, kinds, scores, [i % 4 == 0 for i in range(TRAINED)])
        question = Question("churn", (Version(1, reference, Split("entity", 0.25)),))
        (place / "question.json").write_bytes(canonical(question))
        write_journal(place / "journal", served)
        size = sum(each.bytes for each in JournalArchive(place / "journal").segments())
        print(f"{asked.rows:,} rows x {len(served)} inputs, {size / 1e6:,.0f} MB of journal")
        command = [sys.executable, str(Path(__file__)), "--once", str(place)]
        ours = [json.loads(subprocess.check_output(command)) for _ in range(asked.rounds)]
        cold = Took(_median(ours, "cold"), _median(ours, "cold_cpu"))
        for each in ours:
            print("ecluse", json.dumps(each))
        print(f"ecluse: median {cold.wall:.2f} s cold, {cold.cpu:.2f} s of CPU; again {_median(ours, 'again'):.2f} s")
        held = statistics.median(in_memory(question, served) for _ in range(asked.rounds))
        print(f"ecluse: median {held:.2f} s of CPU for the same columns in memory, one process", flush=True)
        if asked.cache:
            pl.DataFrame(trained).write_csv(place / "reference.csv")
            pl.DataFrame(served).write_csv(place / "current.csv")
            for name in ("journal.jsonl", "journal.parquet"):
                export(read(place / "journal"), place / name)  # what `ecluse journal export` does
            compare(cold, held, evidently(asked.cache, place, asked.rounds))


if __name__ == "__main__":
    main()
