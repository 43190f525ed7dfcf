"""A turn of the event loop: what came in it is scored by one call and journaled by one write, and only then do its answers leave.

Nobody waits for company: when the loop comes round, whatever is ready goes together; one request alone goes alone. Under load a turn holds
about as many requests as there are callers, and what each would cost alone (a call of the scorer, a system call, code and trees fetched
back into the processor's caches) is paid once (docs/decisions/0008-a-turn-of-requests.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from ecluse.core.ports import Journal
from ecluse.serving.predict import Case, Record, conclude, make_answer, run
from ecluse.serving.problems import Refused

MOST = 64
"""Requests of one turn: what has come beyond them is answered in the next."""

_encode = msgspec.json.Encoder().encode


class Seat:
    """A request's place in a turn. Awaited, it gives the answer's bytes and the journaled record, or raises Refused.

    It is what a coroutine that no task runs hands to whoever runs it (serving/connection.py), who says by ``resume`` how it goes on.
    """

    __slots__ = ("case", "found", "resume", "scores")

    def __init__(self, case: Case, scores: list[float] | None) -> None:
        self.case, self.scores = case, scores
        self.found: tuple[bytes, Record] | Exception | None = None
        self.resume: Callable[[], None] | None = None

    def __await__(self) -> Generator[Any, None, tuple[bytes, Record]]:
        if asyncio.current_task() is None:
            yield self
        else:  # a task knows futures only
            future = asyncio.get_running_loop().create_future()
            self.resume = lambda: None if future.done() else future.set_result(None)
            yield from future
        if isinstance(self.found, Exception):
            raise self.found
        assert self.found is not None
        return self.found


class Turns:
    """The turns of one event loop; ``journal`` is where its records go."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open: list[Seat] = []

    def join(self, case: Case, scores: list[float] | None = None) -> Seat:
        """A seat in the present turn, for a case to be scored, or one with its ``scores``; to be awaited at once."""
        seat = Seat(case, scores)
        if not self._open or len(self._open) == MOST:
            self._open, loop = [], asyncio.get_running_loop()
            # in the round after the next: the loop looks once more, and who came meanwhile comes along
            loop.call_soon(loop.call_soon, self._end, self._open)
        self._open.append(seat)
        return seat

    def _end(self, seats: list[Seat]) -> None:
        if seats is self._open:
            self._open = []
        try:
            self._answer(seats)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody in the turn waits for what will not come
            for seat in seats:
                seat.found = error
        for seat in seats:
            if seat.resume is not None:
                with contextlib.suppress(asyncio.CancelledError):  # one that gives up is not its neighbours' end
                    seat.resume()

    def _answer(self, seats: Sequence[Seat]) -> None:
        scores = run([seat.case for seat in seats if seat.scores is None])
        found = iter(scores)
        rows = [next(found) if seat.scores is None else seat.scores for seat in seats]
        for seat, record in zip(seats, conclude([seat.case for seat in seats], rows, self._journal), strict=True):
            seat.found = record if isinstance(record, Refused) else (_encode(make_answer(seat.case, record)), record)
