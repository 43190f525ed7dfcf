"""What the checks of the data plane share: versions whose answers are known beforehand, workers with planted defects, what a process holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tests.serving.house import SCHEMA, House, Worker, bundle, estimator, rows, running

from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.codec import canonical
from ecluse.core.recipe import Split

SCRIPT = Path(__file__).with_name("plane_worker.py")
BODIES = [{"user_id": f"u{i}", "gift": bool(i % 2)} for i in range(10)]
SLOPES = (1.0, -1.0, 0.5, -0.5)
"""What version n weighs hours with is ``SLOPES[(n - 1) % 4]``: a version's answers are those of no neighbour."""

SAME = 1e-9


@contextlib.contextmanager
def planted(house: House, defect: str = "none", *arguments: str, wait: bool = True, **serving: Any) -> Iterator[Worker]:
    """A worker over the house, with a defect of ``plane_worker.py``."""
    with running(house, *arguments, wait=wait, program=(str(SCRIPT), defect), **serving) as worker:
        yield worker


def slope_of(number: int) -> float:
    return SLOPES[(number - 1) % len(SLOPES)]


def version(number: int) -> Bundle:
    """A bundle of its own for each number."""
    made = bundle(slope_of(number))
    return Bundle(replace(made.manifest, recipe=f"r{number}"), made.files)


@cache
def slow_bundle() -> Bundle:
    """A forest that is not compiled: it is scored by a process of its own, in milliseconds, while requests wait."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import scaled_encoder
    from ecluse.training.skops_file import dump

    frame = rows(np.random.default_rng(2), 400)
    forest = RandomForestClassifier(40, max_depth=6, random_state=0)
    fitted = make_pipeline(scaled_encoder(), forest).fit(frame, frame["hours"].to_numpy() > 350)
    few = frame.head(20)
    answers = fitted.predict_proba(few)[:, 1].tolist()
    smoke = [{"inputs": i, "answer": a} for i, a in zip(few.to_dicts(), answers, strict=True)]
    files = {"model.skops": dump(fitted), "schema.json": canonical(SCHEMA), "smoke.json": canonical({"rows": smoke})}
    return make_bundle(model="churn", scorer="skops", recipe="r", dataset="d", split=Split("entity", 0.25), files=files)


def release(house: House, number: int) -> None:
    """Publish a version nobody has loaded yet as champion; the one before stays warm, older ones go."""
    house.add(number, version(number))
    served = house.served["churn"]
    house.served["churn"] = {each: served[each] for each in (number - 1, number) if each in served}
    house.publish(number)


def truth(number: int, body: Mapping[str, Any]) -> float:
    """What a version says of a user of `ready_house`, asked of scikit-learn and not of the compiled model."""
    return _truth(slope_of(number), int(body["user_id"][1:]), body["gift"])


@cache
def _truth(slope: float, user: int, gift: bool) -> float:
    row = {"age_days": [100.0], "fee": [9.5], "gift": [float(gift)], "hours": [10.0 * user], "plan": ["Gold"]}
    return float(estimator(slope).predict_proba(pl.DataFrame(row))[0, 1])


def check(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """An answer must be about its own request, and what the version it names says. For `Traffic`: what is raised counts as failed."""
    assert answer["user_id"] == body["user_id"]
    assert abs(answer["proba"] - truth(answer["version"], body)) <= SAME, answer


@dataclass(frozen=True)
class Held:
    """What a process holds: resident bytes, its highest so far, threads, open files."""

    resident: int
    highest: int
    threads: int
    files: int

    @classmethod
    def by(cls, worker: Worker) -> Held:
        root = Path(f"/proc/{worker.process.pid}")
        status = dict(line.split(":", 1) for line in (root / "status").read_text().splitlines())
        resident, highest = (int(status[name].split()[0]) * 1_024 for name in ("VmRSS", "VmHWM"))
        return cls(resident, highest, int(status["Threads"]), len(list((root / "fd").iterdir())))


def percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds; NaN of nothing."""
    return float(np.quantile(seconds, share)) * 1_000 if seconds else float("nan")
