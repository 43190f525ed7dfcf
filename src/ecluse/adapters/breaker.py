"""A circuit breaker: who failed several times in a row is left alone for a while, then asked once; a success closes the circuit.

Source: M. Nygard, *Release It!*, 2nd ed., 2018, chapter 5. No I/O and no locks: for one thread, with the clock it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Closed → (``limit`` failures in a row) → open → (``rest`` seconds) → one probe → closed, or open again.

    A probe that never reports back costs one more rest, no more: allowing it begins the next rest already.

    >>> now = [0.0]
    >>> breaker = Breaker(limit=2, rest=1.0, clock=lambda: now[0])
    >>> breaker.failed(), breaker.failed(), breaker.allows()
    (None, None, False)
    >>> now[0] = 1.0
    >>> breaker.allows(), breaker.allows()  # one probe at a time
    (True, False)
    >>> breaker.succeeded(), breaker.allows()
    (None, True)
    """

    def __init__(self, *, limit: int, rest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.rest, self._clock = limit, rest, clock
        self._failures = 0
        self._rests_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether failures have opened the circuit and no success has closed it since."""
        return self._failures >= self.limit

    def allows(self) -> bool:
        """Whether to ask now."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._rests_until:
            return False
        self._rests_until = now + self.rest
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._failures = 0

    def failed(self) -> None:
        """It did not answer, or not what was asked for."""
        self._failures += 1
        if self.is_open:
            self._rests_until = self._clock() + self.rest
