"""Scoring what cannot be compiled: a child process holds the skops model, this process only sends it matrices. Standard library and numpy.

The child runs ``adapters/scorer_process.py``. It gets the verified bytes over a pipe, never a path; it dies with its parent's pipe. What is
asked while it scores is scored together by the next call (``scorer_desk.py``).
"""

from __future__ import annotations

import json
import struct
import subprocess
import weakref
from concurrent.futures import Future
from functools import partial

import numpy as np
import numpy.typing as npt

from ecluse.adapters.child_process import ask, end, exchange, spawn
from ecluse.adapters.scorer_desk import Desk
from ecluse.core.bundle import Bundle
from ecluse.core.codec import to_plain
from ecluse.core.errors import Corrupt, InvalidInput, Unavailable
from ecluse.core.settings import Serving

Matrix = npt.NDArray[np.float64]

SHAPE = struct.Struct("<II")
START_SECONDS, SCORE_SECONDS, ROWS_A_SECOND = 60.0, 5.0, 100


class ProcessScorer:
    """A skops model in a process of its own; ``score`` takes the encoded matrix, double [n, F], and answers double [n, K].

    Safe to call from several threads. Starting takes seconds, and at most ``megabytes`` of memory. Raises Corrupt when the model cannot be
    read, Unavailable when the child died or did not answer in time; it is started anew, after ever longer pauses while it goes on dying.
    A row the model cannot answer answers NaN.
    """

    def __init__(self, bundle: Bundle, megabytes: int = Serving.model_mb) -> None:
        schema = bundle.schema
        self.features = len(schema.features)
        self.outputs = len(schema.classes) if schema.task == "multiclass" else 1
        name = bundle.digest[:12]
        header = {
            "features": to_plain(schema.features),
            "task": schema.task,
            "outputs": self.outputs,
            "megabytes": megabytes,
        }
        start = partial(_start, name, json.dumps(header).encode(), bundle.model_bytes)
        self._desk = Desk(f"the scorer process of bundle {name}", start, partial(_score, outputs=self.outputs))
        weakref.finalize(self, self._desk.close)

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._desk.pid

    def score(self, matrix: Matrix) -> Matrix:
        """Answers for the rows, [n, K]; waits for a child that is being started. Raises InvalidInput for another shape or dtype, Unavailable."""
        return self._ask(matrix, patient=True).result()

    def submit(self, matrix: Matrix) -> Future[Matrix]:
        """As ``score``, to be waited for; one that is cancelled before its turn is not scored. Raises Unavailable at once without a child."""
        return self._ask(matrix, patient=False)

    def close(self) -> None:
        """End the child."""
        self._desk.close()

    def _ask(self, matrix: Matrix, *, patient: bool) -> Future[Matrix]:
        if matrix.ndim != 2 or matrix.shape[1] != self.features or matrix.dtype != np.float64:
            found = f"{matrix.dtype} {list(matrix.shape)} instead of float64 [rows, {self.features}]"
            raise InvalidInput(found, where="scorer", cure="encode the rows with the version's schema")
        if matrix.shape[0] == 0:
            nothing: Future[Matrix] = Future()
            nothing.set_result(np.empty((0, self.outputs)))
            return nothing
        return self._desk.ask(matrix, patient=patient)


def _start(name: str, header: bytes, model: bytes) -> subprocess.Popen[bytes]:
    child = spawn("ecluse.adapters.scorer_process")
    try:
        problem = ask(child, (header, model), START_SECONDS).decode()
    except (OSError, EOFError):
        end(child)
        what = f"the scorer process of bundle {name} did not start"
        raise Unavailable(what, where="scorer", cure="see its log; [serving] model_mb bounds its memory") from None
    if problem:
        end(child)
        raise Corrupt(f"the model of bundle {name} cannot be read: {problem}", where="scorer", cure="train again")
    return child


def _score(child: subprocess.Popen[bytes], matrix: Matrix, *, outputs: int) -> Matrix:
    """Raises OSError or EOFError when the child ends before it has answered, or takes too long."""
    rows = matrix.shape[0]
    asked = SHAPE.pack(*matrix.shape), np.ascontiguousarray(matrix).tobytes()
    answer = exchange(child, asked, rows * outputs * 8, SCORE_SECONDS + rows / ROWS_A_SECOND)
    return np.frombuffer(answer, dtype=np.float64).reshape(rows, outputs)
