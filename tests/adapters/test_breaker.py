"""The circuit breaker: when it opens, whom it lets through, when it closes."""

from hypothesis import given
from hypothesis import strategies as st

from ecluse.adapters.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(limit: int = 3, rest: float = 1.0) -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(limit=limit, rest=rest, clock=clock)
    for _ in range(limit):
        assert breaker.allows()
        breaker.failed()
    return breaker, clock


def test_failures_in_a_row_open_it_and_one_success_begins_anew() -> None:
    breaker = Breaker(limit=2, rest=1.0, clock=Clock())
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows()
    assert not breaker.is_open
    breaker.failed()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()


def test_after_its_rest_one_probe_is_let_through() -> None:
    breaker, clock = opened()
    clock.now = 0.999
    assert not breaker.allows()
    clock.now = 1.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now = 1.999
    assert not breaker.allows()
    clock.now = 2.0
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_a_probe_that_never_reports_back_costs_one_rest() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    assert breaker.allows()
    clock.now = 2.0
    assert breaker.allows()


@given(st.lists(st.tuples(st.floats(0, 0.7), st.booleans()), max_size=60))
def test_it_never_asks_twice_in_one_rest_while_open(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    breaker = Breaker(limit=2, rest=1.0, clock=clock)
    asked: list[float] = []
    for wait, answers in steps:
        clock.now += wait
        was_open = breaker.is_open
        if not breaker.allows():
            continue
        if was_open and asked:
            assert clock.now - asked[-1] >= 1.0
        asked.append(clock.now)
        breaker.succeeded() if answers else breaker.failed()
