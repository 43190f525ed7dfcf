"""How many requests are answered at once, and how many wait for a place: both are bounded, what is beyond is refused at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from ecluse.serving.problems import Refused


class Places:
    """So many ``places`` for requests being answered, and a queue of ``waiting`` ones, first come, first served. For one event loop."""

    def __init__(self, places: int, waiting: int) -> None:
        self.in_flight = 0
        self._places, self._bound = places, waiting
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def check(self) -> None:
        """Raises Refused ``overloaded`` when there is neither a place nor room to wait for one."""
        if self.in_flight >= self._places and len(self._queue) >= self._bound:
            raise Refused("overloaded", f"{self.in_flight} requests are in flight, {self.waiting} wait")

    def take(self) -> bool:
        """Take a place if one is free; a place is never free while somebody waits: leave() passes it on."""
        if self.in_flight < self._places:
            self.in_flight += 1
            return True
        return False

    async def enter(self, deadline: float) -> None:
        """Take a place, waiting for one until ``deadline`` (``time.perf_counter``). Raises Refused: overloaded, deadline_exceeded."""
        if self.take():
            return
        self.check()
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await asyncio.sleep(0)  # a timeout wants a task
            async with asyncio.timeout(deadline - time.perf_counter()):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place came in the very moment nobody wanted it any more
            if isinstance(error, TimeoutError):
                raise Refused("deadline_exceeded", "no place came free before the deadline") from None
            raise
        finally:
            self._queue.remove(turn)

    def leave(self) -> None:
        """Give the place to the first who waits, or back."""
        for turn in self._queue:
            if not turn.done():  # else cancelled or given a place already: it takes itself out
                turn.set_result(None)
                return
        self.in_flight -= 1
