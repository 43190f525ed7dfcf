"""V6: bodies without end, without sense and without haste: each gets its refusal, nothing is done for them, and good callers are served."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.acceptance.hostile import KINDS, SLOW_BODY, SLOW_HEAD
from tests.acceptance.open_callers import Offered, http, offer
from tests.acceptance.plane_house import BODIES, Held, check, percentile, planted
from tests.serving.house import environment, ready_house

DATA = [http(body) for body in BODIES]
SCRIPT = Path(__file__).with_name("hostile.py")
MORE_BYTES = 64 * 2**20
RATE = 200.0
ANSWERS: Mapping[str, str] = {
    "too late": "503 deadline_exceeded",
    "10 MiB": "413 body_too_large",
    "10 MiB in chunks": "413 body_too_large",
    "a length without a body": "413 body_too_large",
    "10,000 deep": "400 too_deep",
    "a million features": "413 body_too_large",
    "5,000 features": "422 unknown_field",
    "NaN": "400 invalid_json",
    "Infinity": "400 invalid_json",
    "1e309": "422 out_of_range",
    "a key twice": "400 duplicate_key",
    "not UTF-8": "400 invalid_json",
    "not HTTP": "400 invalid_request",
    SLOW_HEAD: "408 header_timeout",
    SLOW_BODY: "408 body_timeout",
}


@dataclass
class Seen:
    """What good callers got alone and beside hostile ones, how those were answered, what the worker held, how many predictions it made."""

    alone: Offered
    beside: Offered
    told: dict[str, dict[str, int]]
    before: Held
    after: Held
    kept: int

    @property
    def slower(self) -> float:
        """The p99 of good callers beside hostile ones, in terms of that without."""
        return _p99(self.beside) / _p99(self.alone)

    def figures(self) -> str:
        """One line for the record."""
        hostile = sum(sum(codes.values()) for codes in self.told.values())
        return (
            f"V6: {hostile} hostile requests of {len(self.told)} kinds; good callers at {RATE:.0f}/s: {dict(self.beside.codes)}, p99 "
            f"{_p99(self.alone):.1f} ms alone, {_p99(self.beside):.1f} ms beside them ({self.slower:.1f} times); "
            f"{(self.after.highest - self.before.resident) / 2**20:+.1f} MiB at most"
        )


def _p99(offered: Offered) -> float:
    return percentile([request.seconds for request in offered.of("ok")], 0.99)


def attack(folder: Path, seconds: float, *, spells: int = 1, max_body_bytes: int = 65_536) -> Seen:
    """Good callers alone for half of ``seconds``, then beside hostile ones, ``spells`` times in turn: what else runs meets both."""
    house, told = ready_house(folder), defaultdict[str, Counter[str]](Counter)
    alone, beside = Offered(), Offered()
    with planted(house, header_seconds=1.0, deadline_ms=500, max_body_bytes=max_body_bytes) as worker:
        asyncio.run(offer(worker.url, DATA, rate=RATE, seconds=0.5))
        before, kept = Held.by(worker), len(house.records())
        for _ in range(spells):
            alone.requests += asyncio.run(offer(worker.url, DATA, rate=RATE, seconds=seconds / 2)).requests
            # on a machine of their own the hostile would take no time from the good callers, which share one with them here
            command = ["nice", "-n", "19", sys.executable, str(SCRIPT), worker.url, str(seconds), "2"]
            crowd = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
            beside.requests += asyncio.run(offer(worker.url, DATA, rate=RATE, seconds=seconds)).requests
            for kind, codes in json.loads(crowd.communicate(timeout=60)[0]).items():
                told[kind].update(codes)
        after = Held.by(worker)
        assert worker.call("GET", "/ready")[0] == 200
        assert worker.stop() == 0
    kept = len(house.records()) - kept - len(alone.requests)
    return Seen(alone, beside, {kind: dict(codes) for kind, codes in told.items()}, before, after, kept)


def hold(seen: Seen) -> None:
    print(seen.figures())
    for kind in (
        SLOW_HEAD,
        SLOW_BODY,
    ):  # a byte sent in the moment of the answer resets the connection, and the answer may be lost
        assert seen.told[kind].pop("closed", 0) <= seen.told[kind][ANSWERS[kind]] // 20
    assert {kind: list(codes) for kind, codes in seen.told.items()} == {kind: [code] for kind, code in ANSWERS.items()}
    assert set(seen.beside.codes) == {"ok"}
    for number, request in enumerate(seen.beside.requests):
        check(BODIES[number % len(BODIES)], json.loads(request.body))
    assert seen.kept == len(seen.beside.requests), "none for the hostile"
    assert seen.after.highest <= seen.before.resident + MORE_BYTES


def test_every_kind_is_refused_and_good_callers_are_served(tmp_path: Path) -> None:
    assert set(ANSWERS) == {*KINDS, SLOW_HEAD, SLOW_BODY}
    hold(attack(tmp_path, 3.0))


@pytest.mark.nightly
def test_hostile_callers_for_long(tmp_path: Path) -> None:
    seen = attack(tmp_path, 20.0, spells=5)
    hold(seen)
    assert seen.slower <= 2.0


def test_a_worker_that_reads_whatever_comes_is_found_out(tmp_path: Path) -> None:
    """The planted defect: the size of a body is not looked at."""
    seen = attack(tmp_path, 2.0, max_body_bytes=1 << 40)
    with pytest.raises(AssertionError):
        hold(seen)
    assert seen.told["10 MiB"] != {"413 body_too_large": 1}
