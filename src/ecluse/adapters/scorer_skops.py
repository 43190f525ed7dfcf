"""Scoring what cannot be compiled: a child process holds the skops model, this process only sends it matrices. Standard library and numpy.

The child runs ``adapters/scorer_process.py``. It gets the verified bytes over a pipe, never a path; it dies with its parent's pipe; when it
dies first it is started anew with the next question.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import weakref
from typing import IO

import numpy as np
import numpy.typing as npt

from ecluse.core.bundle import Bundle
from ecluse.core.codec import to_plain
from ecluse.core.errors import Corrupt, InvalidInput, Unavailable

Matrix = npt.NDArray[np.float64]

LENGTH = struct.Struct("<Q")
SHAPE = struct.Struct("<II")
START_SECONDS, SCORE_SECONDS, ROWS_A_SECOND = 60.0, 5.0, 100
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")


class ProcessScorer:
    """A skops model in a process of its own; ``score`` takes the encoded matrix, double [n, F], and answers double [n, K].

    Safe to call from several threads, one at a time is scored. Starting takes seconds. Raises Corrupt when the model cannot be read,
    Unavailable when the child died or did not answer in time. A row the model cannot answer answers NaN.
    """

    def __init__(self, bundle: Bundle) -> None:
        schema = bundle.schema
        self.features = len(schema.features)
        self.outputs = len(schema.classes) if schema.task == "multiclass" else 1
        self._name = bundle.digest[:12]
        self._header = json.dumps(
            {"features": to_plain(schema.features), "task": schema.task, "outputs": self.outputs}
        ).encode()
        self._model = bundle.model_bytes
        self._lock = threading.Lock()
        self._child = self._start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def score(self, matrix: Matrix) -> Matrix:
        """Answers for the rows, [n, K]. Raises InvalidInput for another shape or dtype, Unavailable."""
        if matrix.ndim != 2 or matrix.shape[1] != self.features or matrix.dtype != np.float64:
            found = f"{matrix.dtype} {list(matrix.shape)} instead of float64 [rows, {self.features}]"
            raise InvalidInput(found, where="scorer", cure="encode the rows with the version's schema")
        if matrix.shape[0] == 0:
            return np.empty((0, self.outputs))
        with self._lock:
            if self._child.poll() is not None:
                self._child = self._start()
            try:
                return _ask(self._child, matrix, self.outputs)
            except (OSError, EOFError):
                _end(self._child)
                raise Unavailable(
                    f"the scorer process of bundle {self._name} did not answer",
                    where="scorer",
                    cure="it starts anew with the next question",
                ) from None

    def close(self) -> None:
        """End the child."""
        _end(self._child)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "ecluse.adapters.scorer_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # a Ctrl-C at the terminal is the worker's to handle: requests in flight are still scored
        )
        weakref.finalize(self, _end, child)
        try:
            with _Deadline(child, START_SECONDS):
                for part in (self._header, self._model):
                    _input(child).write(LENGTH.pack(len(part)) + part)
                _input(child).flush()
                problem = _read(child, LENGTH.unpack(_read(child, LENGTH.size))[0]).decode()
        except (OSError, EOFError):
            _end(child)
            raise Unavailable(
                f"the scorer process of bundle {self._name} did not start", where="scorer", cure="see its log"
            ) from None
        if problem:
            _end(child)
            raise Corrupt(
                f"the model of bundle {self._name} cannot be read: {problem}", where="scorer", cure="train again"
            )
        return child


class _Deadline:
    """Kills the child when it takes too long: whoever waits for it gets the end of its pipe."""

    def __init__(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        self._timer = threading.Timer(seconds, child.kill)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()


def _ask(child: subprocess.Popen[bytes], matrix: Matrix, outputs: int) -> Matrix:
    rows = matrix.shape[0]
    with _Deadline(child, SCORE_SECONDS + rows / ROWS_A_SECOND):
        _input(child).write(SHAPE.pack(*matrix.shape) + np.ascontiguousarray(matrix).tobytes())
        _input(child).flush()
        return np.frombuffer(_read(child, rows * outputs * 8), dtype=np.float64).reshape(rows, outputs)


def _read(child: subprocess.Popen[bytes], size: int) -> bytes:
    assert child.stdout is not None
    return read_exactly(child.stdout, size)


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises EOFError when the stream ends before."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _input(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdin is not None
    return child.stdin


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        try:
            if stream is not None:
                stream.close()
        except OSError:  # what was still buffered for a child that is gone
            continue
