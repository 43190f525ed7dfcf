"""Shops, what stands on their shelves, daily sales, and how much the following week brought; drifting from a month on.

    python generate.py --from 2024-01 --months 5 --out data --seed 7 --drift-from 2024-04

A month's folder is as of 00:00 UTC of its last day, and has the demand of the seven days after the month before it, known a day later.
People buy a third more in the week after payday, the month's first. The drift: prices rise by a third, fruit and drinks sell half as
much again, bread and dairy less, and a new campaign at the month's end leaves the first week a sixth below the others.
"""

import argparse
import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl

FAMILIES = np.array(["bread", "dairy", "fruit", "drinks"])
SUMMER = np.array([0.7, 0.8, 1.5, 1.6])


def month_end(month: int) -> dt.datetime:
    """00:00 UTC of the last day of a month, counted from year 0."""
    return dt.datetime((month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=dt.UTC) - dt.timedelta(days=1)


def simulate(first: int, months: int, seed: int, shops: int, drift_from: int | None):
    """Yields each month with its tables; 40 products a shop."""
    rng = np.random.default_rng(seed)
    keys = {"shop": np.repeat(np.arange(shops), 40), "product": np.tile(np.arange(40), shops)}
    keys = {name: np.array([f"{name[0]}{number:03}" for number in numbers]) for name, numbers in keys.items()}
    n = shops * 40
    family = np.tile(rng.choice(4, 40), shops)
    price = np.tile(np.exp(rng.normal(0.8, 0.5, 40)), shops)
    liking = 2.5 + 0.5 * rng.normal(size=n) - 0.5 * np.log(price)
    for month in range(first, first + months):
        rng, begin, end = np.random.default_rng([seed, month]), month_end(month - 1), month_end(month)
        summer = drift_from is not None and month >= drift_from
        liking = liking + 0.15 * rng.normal(size=n)
        moved = np.exp(np.where(rng.random(n) < 0.1, 0.15, 0.0)) * (1.33 if month == drift_from else 1.0)
        price = price * moved
        a_day = np.exp(liking) * (SUMMER[family] if summer else 1.0)
        days = (end - begin).days
        week = np.where(np.arange(days) < 7, 0.85 if summer else 1.35, 1.0)
        units = rng.poisson(np.outer(a_day, week))
        noons = [begin + dt.timedelta(days=day, hours=12) for day in range(days)]
        each_day = {name: np.repeat(values, days) for name, values in keys.items()}
        yield (
            month,
            {
                "shelf": pl.DataFrame(keys | {"family": FAMILIES[family], "price": price.round(2).clip(0.01, 100.0)}),
                "sales": pl.DataFrame(each_day | {"at": noons * n, "units": units.ravel()}),
                **(
                    {"demand": pl.DataFrame(keys | {"at": [begin] * n, "units": units[:, :7].sum(axis=1)})}
                    if month > first
                    else {}
                ),
            },
        )


def main(arguments: list[str] | None = None) -> None:
    """Write one folder per month."""
    parser = argparse.ArgumentParser(description="Shelves, sales and demand, month by month.")
    parser.add_argument("--from", dest="first", default="2024-01")
    parser.add_argument("--months", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--shops", type=int, default=25)
    parser.add_argument("--drift-from")
    given = parser.parse_args(arguments)
    first, drift_from = (text and int(text[:4]) * 12 + int(text[5:]) - 1 for text in (given.first, given.drift_from))
    for month, tables in simulate(first, given.months, given.seed, given.shops, drift_from):
        folder = given.out / f"{month // 12:04}-{month % 12 + 1:02}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in tables.items():
            frame.write_csv(folder / f"{name}.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
