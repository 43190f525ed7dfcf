"""The tables of a streaming service, month by month, out of one seed.

    python generate.py --from 2024-01 --months 7 --out data --seed 7 --drift-from 2024-05

Folder ``data/2024-01/`` holds what became known by its as-of: 00:00 UTC of the month's last day (2024-01-31), where months end here.
The first folder brings the three months before it as well, so that no window is half empty. At each month's end every subscriber gets
a label: cancels within 30 days, or not. That is known 5 days later still, so it lies in the folder two months on. Banks take some
payments back after five weeks: a late correction, in a later folder than the payment.

A month depends on the seed and on the months before it alone: asking for more of them changes none, nor does a drift that comes later.
From ``--drift-from`` on prices rise and loyalty discounts end, a campaign in the south changes the mix of regions, people watch less
and on their phones, and others leave: those with dear plans and the loyal, where it was the bored on monthly contracts.
"""

import argparse
import datetime as dt
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

Rng = np.random.Generator
Columns = dict[str, np.ndarray]
Tables = dict[str, pl.DataFrame]
Months = Iterator[tuple[int, Tables]]

DAY = 86_400  # moments are whole seconds since 1970, UTC
NEVER = np.iinfo(np.int64).max
HISTORY, WARM_UP = 3, 12  # months before the first: in its folder; until the mix of subscribers has settled
HORIZON, KNOWN_AFTER = 30 * DAY, 5 * DAY

REGIONS = np.array(["north", "east", "south", "west"])
AGES = np.array(["18-29", "30-49", "50+"])
PLANS, PRICES = np.array(["Basic", "Standard", "Premium"]), np.array([8.99, 12.99, 17.99])
DEVICES = np.array(["tv", "phone", "tablet", "laptop"])
TOPICS = np.array(["billing", "playback", "account"])


# ---------------------------------------------------------------- months


def month_number(text: str) -> int:
    """``"2024-01"`` as months since year 0."""
    year, month = text.split("-")
    return int(year) * 12 + int(month) - 1


def month_name(month: int) -> str:
    """The inverse of ``month_number``: the name of a month's folder."""
    return f"{month // 12:04}-{month % 12 + 1:02}"


def month_end(month: int) -> int:
    """The month's as-of in seconds: 00:00 UTC of its last day."""
    after = dt.date((month + 1) // 12, (month + 1) % 12 + 1, 1)
    return ((after - dt.date(1970, 1, 1)).days - 1) * DAY


# ---------------------------------------------------------------- people and what they do


def join(rng: Rng, first_id: int, joined: np.ndarray, regions: list[float]) -> Columns:
    """New subscribers: what we know of them, and what nobody sees (their mood, their line)."""
    n = len(joined)
    return {
        "id": np.arange(first_id, first_id + n),
        "joined": joined,
        "leaves": np.full(n, NEVER),
        "region": rng.choice(4, n, p=regions),
        "age": rng.choice(3, n, p=[0.35, 0.45, 0.20]),
        "plan": rng.choice(3, n, p=[0.35, 0.40, 0.25]),
        "annual": rng.random(n) < 0.40,
        "auto_pay": rng.random(n) < 0.65,
        "mood": rng.normal(size=n),
        "line": rng.normal(size=n),
    }


def prices(people: Columns, end: int, drifted: bool) -> Columns:
    """What each owes at the month's end: the plan's price, less for a year at once and for two years' loyalty."""
    price = PRICES[people["plan"]] * (1.3 if drifted else 1.0)
    loyal = (end - people["joined"] > 730 * DAY) & (not drifted)
    return {"list_price": price.round(2), "discount": (price * (0.15 * people["annual"] + 0.15 * loyal)).round(2)}


def sessions(rng: Rng, people: Columns, start: np.ndarray, stop: np.ndarray, drifted: bool) -> Columns:
    """Viewing sessions from each one's start to their stop; ``who`` is the position among the people."""
    per_day = (0.15 if drifted else 0.22) * np.exp(0.6 * people["mood"])
    who = np.repeat(np.arange(len(start)), rng.poisson(per_day * (stop - start) / DAY))
    n = len(who)
    devices = [0.30, 0.50, 0.08, 0.12] if drifted else [0.50, 0.25, 0.10, 0.15]
    return {
        "who": who,
        "at": between(rng, start[who], stop[who]),
        "minutes": rng.gamma(4.0, (8.0 if drifted else 12.0) * np.exp(0.15 * people["mood"][who])).round(1),
        "device": DEVICES[rng.choice(4, n, p=devices)],
        "rebuffers": rng.poisson(0.5 * np.exp(0.8 * people["line"][who])),
    }


def payments(rng: Rng, people: Columns, start: np.ndarray, stop: np.ndarray, due: np.ndarray) -> Columns:
    """One payment each; ``disputed`` is when the bank takes a good one back (0: never)."""
    n = len(start)
    at = between(rng, start, stop)
    failed = rng.random(n) < np.where(people["auto_pay"], 0.04, 0.20)
    disputed = np.where(~failed & (rng.random(n) < 0.03), at + rng.integers(32 * DAY, 42 * DAY, n), 0)
    return {"who": np.arange(n), "at": at, "known_at": at, "amount": due, "failed": failed * 1, "disputed": disputed}


def tickets(rng: Rng, people: Columns, start: np.ndarray, stop: np.ndarray) -> Columns:
    """Support tickets: more of them where the line is bad."""
    who = np.repeat(np.arange(len(start)), rng.poisson(0.008 * np.exp(0.6 * people["line"]) * (stop - start) / DAY))
    n = len(who)
    topic = TOPICS[rng.choice(3, n, p=[0.3, 0.5, 0.2])]
    return {
        "who": who,
        "at": between(rng, start[who], stop[who]),
        "topic": topic,
        "hours": rng.gamma(2.0, 9.0, n).round(1),
    }


def between(rng: Rng, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """A moment in ``(start, stop]`` each."""
    return stop - (rng.random(len(start)) * (stop - start)).astype(np.int64)


def odds_of_leaving(people: Columns, month: Columns, end: int, drifted: bool) -> np.ndarray:
    """Log-odds of cancelling within the horizon, out of what the month showed."""
    habit = (np.log1p(month["sessions"]) - 1.8) / 0.6
    stalls = month["rebuffers"] / np.maximum(month["sessions"], 1)
    trouble = 0.9 * month["failed"] + 0.45 * np.minimum(month["tickets"], 3) + 0.35 * np.minimum(stalls, 3)
    loyal = np.log((end - people["joined"]) / DAY + 30) - 5.6
    dear = (month["due"] - month["due"].mean()) / month["due"].std()
    if drifted:
        return -2.60 + trouble + 0.95 * dear + 0.25 * loyal - 0.55 * habit + 0.60 * ~people["annual"]
    return -3.20 + trouble + 0.15 * dear - 0.45 * loyal - 0.75 * habit + 1.50 * ~people["annual"]


# ---------------------------------------------------------------- rows


def rows(people: Columns, columns: Columns, month: int | None = None) -> pl.DataFrame:
    """Columns as rows: ``who`` becomes the user's id; events (where a month is given) get ids of their month."""
    who = columns["who"]
    events = int(month_name(month).replace("-", "")) * 1_000_000 + np.arange(len(who)) if month is not None else None
    return pl.DataFrame(
        {"user_id": people["id"][who]}
        | ({} if events is None else {"event_id": events})
        | {name: values for name, values in columns.items() if name != "who"}
    )


def one_month(rng: Rng, people: Columns, fresh: np.ndarray, month: int, drifted: bool) -> tuple[Tables, Columns]:
    """The rows of a month, and per subscriber what of it bears on leaving."""
    end = month_end(month)
    start, stop = np.maximum(people["joined"], month_end(month - 1)), np.minimum(people["leaves"], end)
    price = prices(people, end, drifted)
    due = (price["list_price"] - price["discount"]).round(2)
    watched, paid = sessions(rng, people, start, stop, drifted), payments(rng, people, start, stop, due)
    asked = tickets(rng, people, start, stop)
    n = len(start)
    showed = {
        "sessions": np.bincount(watched["who"], minlength=n),
        "rebuffers": np.bincount(watched["who"], watched["rebuffers"], n),
        "tickets": np.bincount(asked["who"], minlength=n),
        "failed": paid["failed"],
        "due": due,
    }
    profile = {"signed_up_at": people["joined"], "region": REGIONS[people["region"]], "age_group": AGES[people["age"]]}
    plan = {"plan": PLANS[people["plan"]], "contract": np.where(people["annual"], "annual", "monthly")}
    everyone = {"who": np.arange(n)}
    stays = people["leaves"] > end
    tables = {
        "users": rows(people, everyone | profile).filter(fresh),
        "subscriptions": rows(people, everyone | plan | {"auto_pay": people["auto_pay"]} | price).filter(stays),
        "usage": rows(people, watched, month),
        "payments": rows(people, paid, month),
        "tickets": rows(people, asked, month),
    }
    return tables, {name: values[stays] for name, values in showed.items()}


# ---------------------------------------------------------------- the story


def arrivals(rng: Rng, month: int, now: int, size: int, drift_from: int | None) -> np.ndarray:
    """When the month's new subscribers join: enough to keep the number, and a fifth more in the campaign's month."""
    begin, end = month_end(month - 1), month_end(month)
    if now == 0:
        return begin - (rng.exponential(320.0, size) * DAY).astype(np.int64)
    campaign = 0.20 if month == drift_from else 0.0
    n = int(size * campaign + max(size - now, 0.01 * size))
    return between(rng, np.full(n, begin), np.full(n, end))


def happen(first: int, months: int, seed: int, size: int, drift_from: int | None) -> Months:
    """What happens, month by month, from ``WARM_UP`` months before the first on."""
    people = join(np.random.default_rng(seed), 1, np.array([], dtype=np.int64), [0.25] * 4)
    next_id = 1
    for month in range(first - WARM_UP, first + months):
        rng = np.random.default_rng([seed, month])
        end, drifted = month_end(month), drift_from is not None and month >= drift_from
        regions = [0.20, 0.15, 0.55, 0.10] if drifted else [0.40, 0.30, 0.05, 0.25]
        new = join(rng, next_id, arrivals(rng, month, len(people["id"]), size, drift_from), regions)
        people = {name: np.concatenate([people[name], values]) for name, values in new.items()}
        people["mood"] = 0.8 * people["mood"] + 0.6 * rng.normal(size=len(people["id"]))
        tables, showed = one_month(rng, people, people["id"] >= next_id, month, drifted)
        next_id += len(new["id"])

        people = {name: values[people["leaves"] > end] for name, values in people.items()}
        # Next month's leavers are labelled at the end of this one: the drift's way of leaving begins a month-end early.
        odds = odds_of_leaving(people, showed, end, drift_from is not None and month + 1 >= drift_from)
        leaving = rng.random(len(odds)) < 1 / (1 + np.exp(-odds))
        span = np.full(len(odds), min(HORIZON, month_end(month + 1) - end))
        people["leaves"] = np.where(leaving, end + between(rng, 0 * span, span), NEVER)
        labels = {"who": np.arange(len(odds)), "at": np.full(len(odds), end), "churned": leaving}
        yield month, tables | {"labels": rows(people, labels)}


def become_known(first: int, happened: Months) -> Months:
    """The same, by the month in which it is known: labels and disputes come later, the first month brings its history."""
    pool: Tables = {}
    since = {"users": WARM_UP, "subscriptions": 0, "labels": 0}
    for month, tables in happened:
        end = month_end(month)
        for name, frame in with_known(tables, end).items():
            if month >= first - since.get(name, HISTORY):
                pool[name] = pl.concat([pool[name], frame]) if name in pool else frame
        if month < first:
            continue
        if month == first:
            pool = {name: frame.join(pool["subscriptions"], on="user_id", how="semi") for name, frame in pool.items()}
        ready = {name: frame.filter(pl.col("known") <= end).drop("known") for name, frame in pool.items()}
        pool = {name: frame.filter(pl.col("known") > end) for name, frame in pool.items()}
        # A file says each thing once: of a payment and its dispute, both known by now, the dispute.
        ready["payments"] = ready["payments"].unique(["user_id", "event_id"], keep="last", maintain_order=True)
        yield month, ready


def with_known(tables: Tables, end: int) -> Tables:
    """Each row with the moment it is known: the month's end, but for labels and disputes."""
    known = {name: frame.with_columns(known=pl.lit(end)) for name, frame in tables.items()}
    known["labels"] = tables["labels"].with_columns(known=pl.lit(end + HORIZON + KNOWN_AFTER))
    disputed = known["payments"].filter(pl.col("disputed") > 0)
    disputed = disputed.with_columns(pl.lit(1).alias("failed"), known_at=pl.col("disputed"), known=pl.col("disputed"))
    known["payments"] = pl.concat([known["payments"], disputed], how="vertical_relaxed").drop("disputed")
    return known


def write(folder: Path, tables: Tables) -> int:
    """One CSV per table that has rows; returns how many rows."""
    folder.mkdir(parents=True, exist_ok=True)
    key = pl.concat_str(pl.lit("u"), pl.col("user_id").cast(pl.String).str.zfill(6)).alias("user_id")
    moments = pl.from_epoch(pl.col("^(.*_)?at$"), time_unit="s")
    for name, frame in tables.items():
        if frame.height:
            frame.with_columns(key, moments).write_csv(folder / f"{name}.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return sum(frame.height for frame in tables.values())


def main(arguments: list[str] | None = None) -> None:
    """Write one folder per month and say as of when each is to be ingested."""
    parser = argparse.ArgumentParser(description="Tables of a streaming service, month by month.")
    parser.add_argument("--from", dest="first", default="2024-01", help="first month (default 2024-01)")
    parser.add_argument("--months", type=int, default=7, help="how many (default 7)")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder of the months' folders (default data)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--subscribers", type=int, default=6_000)
    parser.add_argument("--drift-from", help="first month of the drift (default: none)")
    given = parser.parse_args(arguments)
    first, drift_from = month_number(given.first), given.drift_from and month_number(given.drift_from)
    happened = happen(first, given.months, given.seed, given.subscribers, drift_from)
    for month, tables in become_known(first, happened):
        folder = given.out / month_name(month)
        count = write(folder, tables)
        as_of = dt.datetime.fromtimestamp(month_end(month), dt.UTC).date()
        sys.stdout.write(f"{folder}  {count:>7} rows  ecluse ingest --from {folder} --as-of {as_of}\n")


if __name__ == "__main__":
    main()
