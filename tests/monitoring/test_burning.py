"""Error budgets burn at the computed minute, by proof, and never in healthy days."""

import random

import pytest

from ecluse.monitoring.burning import MARK_SECONDS, Tally, burning, noted
from ecluse.monitoring.slo import BURNS

TARGET = 0.999
HOUR, DAY = 3_600.0, 86_400.0


def days_of(
    shares: list[tuple[float, float]], rate: float = 100.0, step: float = 60.0
) -> tuple[list[Tally], float | None]:
    """Stretches of (how many seconds, the bad share) one after the other, looked at every ``step``; the second since the last began at which
    it burns.
    """
    tallies, now, found = [Tally(0.0)], 0.0, None
    for seconds, share in shares:
        begun, found = now, None
        total = bad = 0.0
        first = tallies[-1]
        while now < begun + seconds:
            now += step
            total, bad = total + step * rate, bad + step * rate * share
            tallies = noted(tallies, Tally(now, first.total + round(total), first.bad + round(bad)))
            if burning(tallies, TARGET, 50) is not None and found is None:
                found = now - begun
    return tallies, found


def test_thirty_healthy_days_at_half_the_budget_ask_for_nothing() -> None:
    tallies, found = days_of([(30 * DAY, 0.0005)], step=300)
    assert found is None
    assert len(tallies) <= 3 * DAY / MARK_SECONDS + 2, "only the longest window is kept"


@pytest.mark.parametrize(("share", "factor"), [(0.10, 14.4), (0.01, 6.0), (0.0015, 1.0)])
def test_it_burns_at_the_computed_minute(share: float, factor: float) -> None:
    """After three clean days the long window must fill: factor times the budget over the share of it that is bad."""
    _, found = days_of([(3 * DAY, 0.0), (3 * DAY, share)])
    burn = next(each for each in BURNS if each.factor == factor)
    expected = burn.long.total_seconds() * factor * (1 - TARGET) / share
    assert found is not None
    assert expected <= found <= 1.05 * expected + 180, "so late at most as the proof of one in a million takes"


def test_what_is_over_burns_no_more() -> None:
    _, found = days_of([(3 * DAY, 0.0), (2 * HOUR, 0.5), (10 * HOUR, 0.0)])
    assert found is not None, "the windows still hold it as it ends"
    tallies, _ = days_of([(3 * DAY, 0.0), (2 * HOUR, 0.2), (7 * HOUR, 0.0)])
    assert burning(tallies, TARGET, 50) is None, "no short window holds it any more"


def test_a_few_failures_prove_nothing() -> None:
    assert burning([Tally(0), Tally(60, 40, 40)], TARGET, 50) is None
    assert burning([Tally(0), Tally(60, 60, 1)], TARGET, 50) is None
    found = burning([Tally(0), Tally(60, 60, 12)], TARGET, 50)
    assert found is not None
    assert found.why == "its error budget burns 200.0 times too fast: 12 of 60 answers within 1h were outside it"


def test_chance_is_no_proof() -> None:
    """A thousand days of a thousand answers each at exactly the budget, looked at a hundred times a day."""
    random.seed(1)
    for _ in range(1_000):
        tallies = [Tally(0.0)]
        for i in range(1, 101):
            last = tallies[-1]
            bad = sum(random.random() < 1 - TARGET for _ in range(10))
            tallies = noted(tallies, Tally(i * 60.0, last.total + 10, last.bad + bad))
            assert burning(tallies, TARGET, 50) is None
