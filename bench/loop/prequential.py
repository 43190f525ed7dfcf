"""A stream nobody prepared: the loop over drifting streams, against never training again and training with every window.

    .venv/bin/python -m bench.loop.prequential [--drift abrupt …] [--days 40] [--rows 1000] [--seed 1] [--durable] [--json]
    .venv/bin/python -m bench.loop.prequential --csv mine.csv    # columns row, at, label; the names stand in examples/stream/project.py

Each row is predicted by a running server before its truth is told; the mean of the windows' realised ROC AUC is printed, and how often was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# One thread: what OpenMP's threads spin away while others have the core is ten times the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ecluse.demo.prequential import Window, prequential
from ecluse.testing.streams import stream

ROOT = Path(__file__).resolve().parents[2]


def measure(drift: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One stream through the loop."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "stream"
        shutil.copytree(
            ROOT / "examples" / "stream", project, ignore=shutil.ignore_patterns("data", ".ecluse", "*.csv")
        )
        if asked.csv:
            shutil.copy(asked.csv, project / "stream.csv")
        else:
            stream(drift, days=asked.days, rows_a_day=asked.rows, seed=asked.seed).write_csv(project / "stream.csv")
        began = time.monotonic()
        story = prequential(project, durable=asked.durable, say=(lambda window: None) if asked.quiet else _tell)
        return {
            "stream": drift,
            "windows": len(story.windows),
            "rows": sum(window.rows for window in story.windows),
            "limit": round(story.limit, 4),
            **{which: round(story.mean(which), 4) for which in ("loop", "never", "every")},
            "retrainings": story.retrainings,
            "releases": story.releases,
            "every_retrainings": len(story.windows),
            "seconds": round(time.monotonic() - began, 1),
        }


def _tell(window: Window) -> None:
    did = "retrained, released" if window.released else "retrained, kept" if window.retrained else ""
    every = float("nan") if window.every is None else window.every
    print(
        f"{window.start:%Y-%m-%d}  version {window.version:2}  loop {window.loop:.3f}  never {window.never:.3f}  "
        f"every {every:.3f}  {did}",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drift", nargs="+", default=["abrupt", "gradual", "recurring", "covariate"])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durable", action="store_true", help="retrain in processes, on DBOS")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ |= {"ECLUSE_MLFLOW__ENABLED": "false", "ECLUSE_LOG__LEVEL": "error"}
    found = [measure(drift, asked) for drift in (["given"] if asked.csv else asked.drift)]
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{'stream':10} {'loop':>7} {'never':>7} {'every':>7}  retrainings (released) of every window")
    for one in found:
        print(
            f"{one['stream']:10} {one['loop']:7.4f} {one['never']:7.4f} {one['every']:7.4f}  "
            f"{one['retrainings']} ({one['releases']}) of {one['every_retrainings']}; {one['seconds']} s"
        )


if __name__ == "__main__":
    main()
