"""Point-in-time features: `view_as_of` against hand-written polars that passes the same check, interleaved; medians and peak memory.

    .venv/bin/python bench/features/point_in_time.py [--labels 1000000] [--rows 5000000] [--rounds 5] [--corrected 0.01]

Three histories: as they happened; the same with a share of keys corrected late; and corrected everywhere.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.features.oracle import answer

from ecluse.core.contract import Number, Table
from ecluse.core.entity import Entity
from ecluse.core.view import FeatureView, last, total
from ecluse.features.as_of import view_as_of

VIEWS = 5
INSTANT = pl.Datetime("us", "UTC")
START = int(datetime(2023, 1, 1, tzinfo=UTC).timestamp())
YEAR = 365 * 86_400
OVER = timedelta(days=90)
TABLE = Table("usage", Entity("user"), {"hours": Number(nulls=1)})
LAST = FeatureView("usage", TABLE, {"hours": last("hours")})
TOTAL = FeatureView("usage", TABLE, {"hours": total("hours", over="90d")})


@dataclass(frozen=True)
class Case:
    """Five histories and the questions."""

    name: str
    histories: list[pl.DataFrame]
    asks: pl.DataFrame


def make_history(rows: int, keys: int, corrected: float, seed: int) -> pl.DataFrame:
    """Events over a year known six hours later, in monthly ingests; of a share of the keys a tenth corrected up to 60 days later."""
    rng = np.random.default_rng(seed)
    extra = int(rows * 0.1 * corrected)
    key = rng.integers(0, keys, rows - extra)
    event = START + rng.integers(0, YEAR, rows - extra)
    again = rng.choice(np.flatnonzero(key < max(1, round(keys * corrected))), extra) if extra else np.zeros(0, np.int64)
    late = rng.integers(1, 60 * 86_400, extra)
    frame = pl.DataFrame(
        {
            "__key": np.concatenate([key, key[again]]),
            "__event": np.concatenate([event, event[again]]),
            "__known": np.concatenate([event + 21_600, event[again] + 21_600 + late]),
            "hours": rng.integers(0, 4_000, rows) / 64,
        }
    )
    instants = [(pl.col(name) * 1_000_000).cast(INSTANT) for name in ("__event", "__known")]
    typed = frame.with_columns(pl.col("__key").cast(pl.String), *instants)
    ingest = pl.col("__known").dt.truncate("1mo")  # a history is its snapshots one after the other, each sorted by key
    return typed.sort(ingest, "__key", "__event", "__known")


def make_case(name: str, rows: int, labels: int, corrected: float) -> Case:
    keys = max(1, rows // VIEWS // 10)
    rng = np.random.default_rng(99)
    asks = pl.DataFrame({"__key": rng.integers(0, keys, labels), "__at": START + rng.integers(0, YEAR, labels)})
    asks = asks.with_columns(pl.col("__key").cast(pl.String), (pl.col("__at") * 1_000_000).cast(INSTANT))
    return Case(name, [make_history(rows // VIEWS, keys, corrected, seed) for seed in range(VIEWS)], asks)


def by_hand(history: pl.DataFrame, asks: pl.DataFrame) -> pl.Series:
    """Last value, written directly in polars, the fastest of four ways tried: keys as numbers, drop rows older than the newest
    already known, join as of known, back to the order asked.
    """
    keys = history.select(pl.col("__key").unique()).with_row_index("k")
    ready = (
        history.join(keys, on="__key", how="left", maintain_order="left")
        .lazy()
        .with_columns(pl.max_horizontal("__event", "__known").alias("__known"))
        .sort("k", "__known", "__event", maintain_order=True)
        .filter(pl.col("__event") >= pl.col("__event").cum_max().over("k"))
        .select("k", "__known", "hours")
        .collect()
    )
    asked = asks.join(keys, on="__key", how="left", maintain_order="left").with_row_index("n").select("n", "k", "__at")
    joined = asked.sort("__at").join_asof(ready, left_on="__at", right_on="__known", by="k", check_sortedness=False)
    return joined.sort("n")["hours"]


def ours(view: FeatureView) -> Callable[[pl.DataFrame, pl.DataFrame], pl.Series]:
    return lambda history, asks: view_as_of(history, view, asks)["hours"]


WAYS = {"last, by hand": by_hand, "last, view_as_of": ours(LAST), "90 d sum, view_as_of": ours(TOTAL)}
VIEW_OF = {"last, by hand": LAST, "last, view_as_of": LAST, "90 d sum, view_as_of": TOTAL}


def check(case: Case) -> None:
    """Every way gives what a loop over rows gives, on the rows of 200 questions."""
    history, asks = case.histories[0], case.asks.head(200)
    rows = history.join(asks.select("__key").unique(), on="__key", how="semi").to_dicts()
    of_key: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        of_key.setdefault(row["__key"], []).append(row)
    for name, way in WAYS.items():
        got = way(history, case.asks).head(200).to_list()
        expected = [answer(of_key.get(k, []), VIEW_OF[name], k, at).values["hours"] for k, at in asks.iter_rows()]
        assert got == expected, f"{name} on {case.name} differs from the oracle"


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Median seconds for all views, the ways taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            begin = time.perf_counter()
            for history in case.histories:
                way(history, case.asks)
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corrected", type=float, default=0.01, help="share of keys corrected in the second history")
    given = parser.parse_args()
    shares = {"as it happened": 0.0, f"{given.corrected:.0%} of keys corrected": given.corrected, "all corrected": 1.0}
    print(
        f"{given.labels:,} labels x {VIEWS} views over {given.rows:,} rows, {given.rounds} rounds, polars {pl.__version__}"
    )
    for name, corrected in shares.items():
        case = make_case(name, given.rows, given.labels, corrected)
        check(case)
        medians = measure(case, given.rounds)
        base = medians["last, by hand"]
        for way, median in medians.items():
            print(f"{name:25} {way:22} {median:7.2f} s  {median / base:5.2f} x by hand")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
        print(f"{name:25} peak memory so far {peak:,.0f} MB, of which the tables {_size(case):,.0f} MB")


def _size(case: Case) -> float:
    return sum(frame.estimated_size("mb") for frame in [*case.histories, case.asks])


if __name__ == "__main__":
    main()
