"""V1: versions are swapped under load; no request fails, and every answer is that of the version it names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.plane_house import BODIES, Held, check, percentile, planted, release
from tests.serving.house import Worker, ready_house

from ecluse.testing.load import Counts, Traffic


@dataclass
class Seen:
    """What callers got, and what the worker held before and after the swaps. ``late``: answers of a version already replaced."""

    counts: Counts
    before: Held
    after: Held
    late: int = 0
    steady: list[float] = field(default_factory=list)
    swapping: list[float] = field(default_factory=list)

    def figures(self) -> str:
        """One line for the record."""
        p99 = [percentile(each, 0.99) for each in (self.steady, self.swapping)]
        grown = self.after.resident / self.before.resident - 1
        return (
            f"V1: {self.counts.sent} requests, {self.counts.failed} failed, {len(self.counts.versions)} versions; p99 {p99[0]:.1f} ms "
            f"steady, {p99[1]:.1f} ms while swapping; resident {grown:+.1%}, threads {self.before.threads} -> {self.after.threads}, "
            f"files {self.before.files} -> {self.after.files}"
        )


def settled(worker: Worker, before: Held) -> Held:
    """What it holds once what loads versions beside it has gone; that is kept for a second."""
    end = time.monotonic() + 10
    while True:
        after = Held.by(worker)
        if (after.threads, after.files) == (before.threads, before.files) or time.monotonic() > end:
            return after
        time.sleep(0.1)


def swap(folder: Path, swaps: int, requests: int, defect: str = "none") -> Seen:
    """Eight callers, and a version nobody has seen before, again and again."""
    house = ready_house(folder)
    late = 0
    with planted(house, defect) as worker, Traffic(worker.url, BODIES, connections=8, check=check) as traffic:
        for number in (2, 3, 4, 5):  # each of the models once: what is loaded lazily is there
            release(house, number)
            worker.wait(f"version {number} serves", lambda h, n=number: h["models"]["churn"]["serving"] == n)
        began = len(traffic.counts.seconds)
        assert traffic.wait_for(traffic.counts.sent + requests // 3)
        time.sleep(1.5)
        before, swapping = Held.by(worker), len(traffic.counts.seconds)
        for number in range(6, 6 + swaps):
            release(house, number)
            worker.wait(f"version {number} serves", lambda h, n=number: h["models"]["churn"]["serving"] == n)
            late += worker.predict()[1]["version"] != number
        ended = len(traffic.counts.seconds)
        assert traffic.wait_for(requests, seconds=200)
        after, seconds = settled(worker, before), traffic.counts.seconds
        counts = traffic.stop()
        assert worker.stop() == 0
    kept = [record for record in house.records() if record["kind"] == "prediction"]
    if not counts.failed:
        assert len(kept) == len({record["id"] for record in kept}) == counts.sent + swaps
    return Seen(counts, before, after, late, seconds[began:swapping], seconds[swapping:ended])


def hold(seen: Seen, swaps: int, requests: int) -> None:
    print(seen.figures())
    assert (seen.counts.failed, seen.late) == (0, 0), seen.counts.codes
    assert seen.counts.sent >= requests
    assert len(seen.counts.versions) >= swaps, "each of them answered"
    assert (seen.after.threads, seen.after.files) == (seen.before.threads, seen.before.files)


def test_swaps_fail_nothing_and_mix_nothing(tmp_path: Path) -> None:
    hold(swap(tmp_path, 6, 1_500), 6, 1_500)


@pytest.mark.nightly
def test_fifty_swaps_fail_nothing_and_mix_nothing(tmp_path: Path) -> None:
    seen = swap(tmp_path, 50, 20_000)
    hold(seen, 50, 20_000)
    assert seen.after.resident <= 1.1 * seen.before.resident


def test_a_swap_in_two_steps_is_found_out(tmp_path: Path) -> None:
    """The planted defect: for a moment the new version's name stands over the old one's model."""
    seen = swap(tmp_path, 3, 600, defect="mixed")
    assert seen.counts.codes["AssertionError"] > 0, seen.counts.codes


def test_the_judge_knows_one_version_from_the_next() -> None:
    from tests.acceptance.plane_house import truth

    answers: list[Mapping[str, Any]] = [{**body, "version": 2, "proba": truth(2, body)} for body in BODIES]
    for body, answer in zip(BODIES, answers, strict=True):
        check(body, answer)
        with pytest.raises(AssertionError):
            check(body, {**answer, "version": 3})
