"""Machines, their sensors and the faults found in them, month by month; drifting from a month on.

    python generate.py --from 2024-01 --months 5 --out data --seed 7 --drift-from 2024-04

A month's folder is as of 00:00 UTC of its last day. A fault of the fortnight after that day is known two days later: in the next folder.
The drift: summer heat in every sensor, and electrics that fail of heat rather than of surges.
"""

import argparse
import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl

FAULTS = np.array(["none", "bearing", "electrical"])
MAKERS = np.array(["Adler", "Brunel", "Curie"])


def month_end(month: int) -> dt.datetime:
    """00:00 UTC of the last day of a month, counted from year 0."""
    return dt.datetime((month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=dt.UTC) - dt.timedelta(days=1)


def machines(rng: np.random.Generator, n: int, begin: dt.datetime) -> pl.DataFrame:
    """What stands in the halls, installed over the years before."""
    installed = [begin - dt.timedelta(days=int(days)) for days in rng.integers(30, 3_000, n)]
    columns = {"machine_id": np.arange(1, n + 1), "installed_at": installed, "maker": MAKERS[rng.choice(3, n)]}
    return pl.DataFrame(columns | {"power_kw": rng.integers(5, 120, n)})


def simulate(first: int, months: int, seed: int, n: int, drift_from: int | None):
    """Yields each month with its tables; wear and surges are what the sensors see of what nobody sees."""
    stock = machines(np.random.default_rng(seed), n, month_end(first - 1))
    wear, surges = np.random.default_rng([seed, 0]).normal(size=(2, n))
    found = None
    for month in range(first, first + months):
        rng, begin, end = np.random.default_rng([seed, month]), month_end(month - 1), month_end(month)
        hot = drift_from is not None and month >= drift_from
        wear, surges = 0.8 * wear + 0.6 * rng.normal(size=n), 0.8 * surges + 0.6 * rng.normal(size=n)
        heat = rng.normal(size=n)
        who = np.repeat(np.arange(n), 8)
        at = [end - (end - begin) * float(u) for u in rng.random(len(who))]
        readings = pl.DataFrame({
            "machine_id": who + 1,
            "at": pl.Series(at).dt.truncate("1s"),
            "vibration": (2.0 * np.exp(0.4 * wear[who] + 0.2 * rng.normal(size=len(who)))).round(3),
            "temperature": (60 + 18 * hot + 6 * heat[who] + 3 * rng.normal(size=len(who))).round(1),
            "voltage": (230 + 6 * surges[who] + 3 * rng.normal(size=len(who))).round(1),
        })  # fmt: skip
        tables = {"readings": readings} | ({"machines": stock} if month == first else {})
        yield month, tables | ({"inspections": found} if found is not None else {})
        scores = np.stack([np.full(n, 1.6), 1.6 * wear, 1.6 * (heat if hot else surges)])
        fault = (scores + rng.gumbel(size=(3, n))).argmax(axis=0)
        found = pl.DataFrame({"machine_id": np.arange(1, n + 1), "at": [end] * n, "fault": FAULTS[fault]})


def main(arguments: list[str] | None = None) -> None:
    """Write one folder per month."""
    parser = argparse.ArgumentParser(description="Machines, sensors and faults, month by month.")
    parser.add_argument("--from", dest="first", default="2024-01")
    parser.add_argument("--months", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--machines", type=int, default=1_500)
    parser.add_argument("--drift-from")
    given = parser.parse_args(arguments)
    first, drift_from = (text and int(text[:4]) * 12 + int(text[5:]) - 1 for text in (given.first, given.drift_from))
    for month, tables in simulate(first, given.months, given.seed, given.machines, drift_from):
        folder = given.out / f"{month // 12:04}-{month % 12 + 1:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in tables.items():
            frame.write_csv(folder / f"{name}.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
