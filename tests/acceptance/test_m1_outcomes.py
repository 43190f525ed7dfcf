"""M1: truths told three times over, shuffled, conflicting, late, before the prediction, for nobody, to a server killed again and again.

Each is counted exactly once, and the metric is that of the raw list, to the last digits.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.acceptance.journal_house import pid_of, working
from tests.serving.house import JANUARY, House, Worker, ready_house

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import verify
from ecluse.core.instants import parse_instant, to_micros
from ecluse.loop.outcomes import reported
from ecluse.monitoring.performance import join, realised
from ecluse.monitoring.told import Settled, asked_by, settle
from ecluse.stats.metrics_binary import roc_auc

DELAY = timedelta(days=10)
LATER = JANUARY + timedelta(days=20)  # when all is judged: what was asked then is not mature
Message = dict[str, Any]


@dataclass
class Plan:
    """What turns out, as its source says it: per request the truth, and every message about it in the order sent."""

    truths: dict[str, bool] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    wrong: int = 0
    orphans: int = 0
    future: int = 0
    immature: int = 0


def plan(rng: random.Random, requests: int) -> Plan:
    """Every message three times, in any order. Every fifth truth was told wrongly at first, every tenth changes after the judging;
    every seventh request does not exist, every eleventh is not mature.
    """
    made = Plan()
    for i in range(requests):
        kind = "orphan" if i % 7 == 3 else "young" if i % 11 == 5 else "asked"
        request, truth = f"{kind}-{i}", rng.random() < 0.4
        made.messages += 3 * [_message(request, truth, JANUARY + timedelta(days=9))]
        if kind == "orphan":
            made.orphans += 1
        elif kind == "young":
            made.immature += 1
        else:
            made.truths[request] = truth
            if i % 5 == 0:
                made.wrong += 1
                made.messages += 3 * [_message(request, not truth, JANUARY + timedelta(days=2))]
            if i % 10 == 2:
                made.future += 1
                made.messages += 3 * [_message(request, not truth, LATER + timedelta(days=1))]
    rng.shuffle(made.messages)
    return made


def _message(request: str, value: bool, known: datetime) -> Message:
    return {"request_id": request, "value": value, "known_at": known.astimezone(UTC).isoformat()}


@dataclass
class Feeder:
    """Sends the messages in small batches from where it stands, and moves on once a batch was accepted; whatever else, it sends it again."""

    messages: list[Message]
    done: int = 0
    sent: int = 0
    target: int = 1 << 30  # the server is killed once so many batches were sent
    refused: list[Any] = field(default_factory=list)

    def feed(self, worker: Worker, stop: threading.Event) -> None:
        while self.done < len(self.messages) and not stop.is_set():
            batch = self.messages[self.done : self.done + 1 + self.sent % 5]
            try:
                self.send(worker, batch)
            except (OSError, http.client.HTTPException):
                return  # killed: nobody knows whether it was kept

    def send(self, worker: Worker, batch: list[Message]) -> None:
        self.post(worker, batch)
        if self.sent % 9:  # every ninth answer is lost on its way
            self.done += len(batch)

    def post(self, worker: Worker, batch: list[Message]) -> None:
        self.sent += 1
        status, _, answer = worker.call("POST", "/outcomes", batch)
        if status != 202:
            self.refused.append(answer)


class Hasty(Feeder):
    """The planted defect: the place is moved on before the write, and that is where the kill comes."""

    def send(self, worker: Worker, batch: list[Message]) -> None:
        self.done += len(batch)
        if self.sent + 1 >= self.target:
            self.sent += 1
            worker.process.wait(30)
        self.post(worker, batch)


@dataclass(frozen=True)
class Judged:
    """What a history of kills came to; ``again``: messages kept twice because their answer was lost."""

    found: Settled
    again: int
    online: float
    batch: float
    faults: list[str]


def history(folder: Path, kills: int, requests: int, feeder: Callable[[list[Message]], Feeder] = Feeder) -> Judged:
    """Predict, tell everything while the server is killed, predict the rest; then settle."""
    rng = random.Random(kills)
    made, house = plan(rng, requests), ready_house(folder)
    asked = sorted(made.truths)
    feed = feeder(made.messages)
    for number in range(kills):
        first = [] if number else asked[: 3 * len(asked) // 4]
        killed(house, feed, rng.randrange(3, 12), partial(predict, rng=rng, requests=first))
    with working(house) as worker:
        feed.feed(worker, threading.Event())
        predict(worker, rng, asked[3 * len(asked) // 4 :])
        house.now = LATER
        house.publish(1)
        worker.wait("the new moment", lambda health: health["generation"] == house.generation)
        predict(worker, rng, [each["request_id"] for each in made.messages if each["request_id"].startswith("young")])
    return judged(house, made, feed)


def predict(worker: Worker, rng: random.Random, requests: list[str]) -> None:
    for request in sorted(set(requests)):
        features = {"hours": rng.uniform(0, 700), "plan": "Gold", "fee": rng.uniform(1, 20), "since": "2024-01-01"}
        status, _, answer = worker.call(
            "POST", "/predict", {"features": features, "gift": rng.random() < 0.5, "request_id": request}
        )
        assert status == 200, answer


def killed(house: House, feed: Feeder, after: int, before: Callable[[Worker], None]) -> None:
    """Feed until so many more batches were sent, then SIGKILL the server in the midst of the next."""
    with working(house) as worker:
        before(worker)
        stop, feed.target = threading.Event(), feed.sent + after
        thread = threading.Thread(target=feed.feed, args=(worker, stop))
        thread.start()
        while thread.is_alive() and feed.sent < feed.target:
            thread.join(0.0005)
        os.kill(pid_of(house), signal.SIGKILL)
        worker.process.wait()
        thread.join(30)
        stop.set()
        feed.target = 1 << 30


def judged(house: House, made: Plan, feed: Feeder) -> Judged:
    Journal.open(house.home / "journal", "w1", durability="process").close()  # cuts a torn tail, as the next start does
    records = house.records()
    predictions = [each for each in records if each["kind"] == "prediction"]
    told = list(reported("churn", records))
    micros = DELAY // timedelta(microseconds=1)
    found = settle(told, asked_by(predictions), delay=micros, now=to_micros(LATER))
    joined = join(predictions, found.truths)
    online = realised("binary", (), joined).metrics.get("roc_auc", float("nan"))
    batch = from_raw(predictions, made)
    faults = [] if not feed.refused else [f"refused: {feed.refused[0]}"]
    truths = dict(found.truths.by_request)
    faults += [] if truths == made.truths else [f"{len(truths)} truths, {len(made.truths)} told"]
    counted = {"used": len(made.truths), "orphans": made.orphans, "early": made.immature}
    faults += [
        f"{getattr(found.counts, name)} {name}, not {count}"
        for name, count in counted.items()
        if getattr(found.counts, name) != count
    ]
    faults += _by_value(found, made)
    faults += [] if abs(online - batch) <= 1e-12 else [f"{online} online, {batch} from the raw list"]
    faults += [] if verify(house.home / "journal") == [] else ["the journal is damaged"]
    sent = Counter((m["request_id"], m["value"], to_micros(parse_instant(m["known_at"]))) for m in made.messages)
    lost = sent - Counter((str(each.about), bool(each.value), each.known) for each in told)
    faults += [f"{lost.total()} messages lost"] if lost else []
    return Judged(found, len(told) - len(made.messages), online, batch, faults)


def _by_value(found: Settled, made: Plan) -> list[str]:
    """Conflicts and future ones by what was told, however often."""
    reasons: Counter[str] = Counter(
        each.reason for each in {(h.reason, h.told.about): h for h in found.quarantine}.values()
    )
    expected = {"conflict": made.wrong, "future": made.future, "orphan": made.orphans, "early": made.immature}
    return [f"{reasons[name]} with a {name}, not {count}" for name, count in expected.items() if reasons[name] != count]


def from_raw(predictions: list[dict[str, Any]], made: Plan) -> float:
    """The metric out of the list the truths came from, with a dictionary and nothing else."""
    newest: dict[str, tuple[int, bool]] = {}
    for each in made.messages:
        known = to_micros(parse_instant(each["known_at"]))
        if known <= to_micros(LATER):
            newest[each["request_id"]] = max(newest.get(each["request_id"], (-1, False)), (known, each["value"]))
    rows = [(newest[p["request_id"]][1], p["score"]) for p in predictions if not p["request_id"].startswith("young")]
    y, scores = zip(*rows, strict=True)
    return roc_auc(np.array(y, dtype=float), np.array(scores))


def test_truths_are_counted_once_through_kills(tmp_path: Path) -> None:
    found = history(tmp_path, kills=2, requests=40)
    assert found.faults == []
    assert found.again > 0
    assert found.found.counts.duplicates > 40


@pytest.mark.nightly
def test_thirty_kills(tmp_path: Path) -> None:
    found = history(tmp_path, kills=30, requests=400)
    assert found.faults == []
    print(f"{found.found.counts}; {found.again} kept again by a retry; roc_auc {found.online} and {found.batch}")


def test_a_feeder_that_moves_on_before_the_write_is_found_out(tmp_path: Path) -> None:
    found = history(tmp_path, kills=2, requests=40, feeder=Hasty)
    assert any("lost" in fault for fault in found.faults)
