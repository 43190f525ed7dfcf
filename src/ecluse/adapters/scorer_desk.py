"""The desk before a scorer process: one thread takes what is asked, all that waits together, and starts a process that died or hangs anew.

While the process scores, requests gather; the next call takes them all, up to MOST_ROWS. Nothing waits for company: one request alone is
scored at once.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecluse.adapters.child_process import end, pause
from ecluse.core.errors import EcluseError, Unavailable

Matrix = npt.NDArray[np.float64]
MOST_ROWS = 256
"""Rows of one call, so that nobody waits long behind it; a request with more is scored alone."""
LOOK_SECONDS = 0.25
STUCK_SECONDS = 1.0
"""A call that takes so long, and 10 ms a row, is taken for hung: no more is accepted behind it."""
STEADY_SECONDS = 30.0
"""A process that lived so long was well: its death is a first one."""


@dataclass(frozen=True)
class _Asked:
    matrix: Matrix
    answer: Future[Matrix]
    patient: bool


class Desk:
    """Calls ``score(child, matrix)`` for whoever asks, on a thread of its own; ``start`` makes the child, here already for the first time.

    Whoever is ``patient`` waits while the child is started anew, whoever is not is refused at once. Raises what ``start`` raises.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], subprocess.Popen[bytes]],
        score: Callable[[subprocess.Popen[bytes], Matrix], Matrix],
    ) -> None:
        self._name, self._start, self._score = name, start, score
        self._changed = threading.Condition()
        self._queue: deque[_Asked] = deque()
        self._closed = False
        self._late_at = float("inf")
        self._deaths, self._not_before = 0, 0.0
        self._child: subprocess.Popen[bytes] | None = start()
        self._begun = time.monotonic()
        threading.Thread(target=self._run, name="scorer", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def ask(self, matrix: Matrix, *, patient: bool) -> Future[Matrix]:
        """The answer to come. Raises Unavailable for the impatient while there is no child that answers."""
        asked = _Asked(matrix, Future(), patient)
        with self._changed:
            if self._closed or (not patient and (self._child is None or time.monotonic() > self._late_at)):
                raise self._refusal()
            self._queue.append(asked)
            self._changed.notify()
        return asked.answer

    def close(self) -> None:
        """End the child; what still waits is refused."""
        with self._changed:
            self._closed = True
            if self._child is not None:
                self._child.kill()  # whoever is reading from it finds its end
            self._changed.notify()

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            if self._child is None:
                self._revive()
            elif taken := self._take():
                self._call(self._child, taken)
            elif self._child.poll() is not None:
                self._died(self._child)
        if self._child is not None:
            end(self._child)
        self._refuse(lambda asked: True, self._refusal())

    def _take(self) -> list[_Asked]:
        """What waits, in its order, as many as one call takes; nothing after a while without."""
        taken: list[_Asked] = []
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed, LOOK_SECONDS)
            room = MOST_ROWS
            while self._queue and (not taken or len(self._queue[0].matrix) <= room):
                asked = self._queue.popleft()
                if asked.answer.set_running_or_notify_cancel():  # else nobody waits for it any more
                    taken.append(asked)
                    room -= len(asked.matrix)
            rows = MOST_ROWS - room
            self._late_at = time.monotonic() + STUCK_SECONDS + rows / 100 if taken else float("inf")
        return taken

    def _call(self, child: subprocess.Popen[bytes], taken: list[_Asked]) -> None:
        try:
            matrix = taken[0].matrix if len(taken) == 1 else np.concatenate([asked.matrix for asked in taken])
            found = self._score(child, matrix)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must be told
            for asked in taken:
                _tell(asked, error if isinstance(error, EcluseError) else self._refusal())
            self._died(child)
            return
        first = 0
        for asked in taken:
            _tell(asked, found[first : first + len(asked.matrix)])
            first += len(asked.matrix)
        self._late_at = float("inf")

    def _died(self, child: subprocess.Popen[bytes]) -> None:
        end(child)
        with self._changed:
            self._child, self._late_at = None, float("inf")
        self._deaths = 1 if time.monotonic() - self._begun > STEADY_SECONDS else self._deaths + 1
        self._not_before = time.monotonic() + pause(self._deaths)
        self._refuse(lambda asked: not asked.patient, self._refusal())

    def _revive(self) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._closed, max(0.0, self._not_before - time.monotonic())):
                return
        try:
            child = self._start()
        except Exception as error:  # noqa: BLE001 - this thread must go on, and those who wait must be told
            self._deaths += 1
            self._not_before = time.monotonic() + pause(self._deaths)
            self._refuse(lambda asked: True, error if isinstance(error, EcluseError) else self._refusal())
            return
        with self._changed:
            self._child, self._begun = child, time.monotonic()

    def _refuse(self, which: Callable[[_Asked], bool], error: EcluseError) -> None:
        with self._changed:
            refused = [asked for asked in self._queue if which(asked)]
            self._queue = deque(asked for asked in self._queue if not which(asked))
        for asked in refused:
            if asked.answer.set_running_or_notify_cancel():
                _tell(asked, error)

    def _refusal(self) -> Unavailable:
        return Unavailable(f"{self._name} did not answer", where="scorer", cure="it is being started anew: try again")


def _tell(asked: _Asked, answer: Matrix | EcluseError) -> None:
    with contextlib.suppress(InvalidStateError):
        if isinstance(answer, EcluseError):
            asked.answer.set_exception(answer)
        else:
            asked.answer.set_result(answer)
