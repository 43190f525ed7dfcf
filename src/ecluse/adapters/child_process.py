"""A child process of ours: started without our secrets, spoken to in framed bytes, left when it takes too long. Standard library only."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from ecluse.core.errors import Unavailable

LENGTH = struct.Struct("<Q")
PIECE = 1 << 20
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
# A few rows gain nothing by more; threads that wait for each other on a busy machine cost twenty times the work, and each has a stack.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


def spawn(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """``python -m module`` with pipes for input and output, its libraries on one thread; it ends when its input does. Raises Unavailable."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | _ONE_THREAD,
            start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle: requests in flight are still answered
        )
    except OSError as error:
        what = f"no process could be started: {error}"
        raise Unavailable(what, where=module, cure="free memory or processes") from None
    os.set_blocking(_input(child), False)
    return child


def ask(child: subprocess.Popen[bytes], parts: Sequence[bytes], seconds: float) -> bytes:
    """Send framed parts and return the framed answer. Raises as :func:`exchange`."""
    end = time.monotonic() + seconds
    framed = [piece for part in parts for piece in (LENGTH.pack(len(part)), part)]
    size = LENGTH.unpack(exchange(child, framed, LENGTH.size, seconds))[0]
    return exchange(child, (), size, end - time.monotonic())


def exchange(child: subprocess.Popen[bytes], pieces: Sequence[bytes], size: int, seconds: float) -> bytes:
    """Send bytes, and return so many. Raises TimeoutError when that takes longer, EOFError when the child has ended, OSError."""
    end, answer, unsent = time.monotonic() + seconds, bytearray(), [memoryview(piece) for piece in pieces if piece]
    poll = select.poll()  # not select: descriptors of a worker with many connections are beyond what that can watch
    poll.register(_output(child), select.POLLIN)
    if unsent:
        poll.register(_input(child), select.POLLOUT)
    while unsent or len(answer) < size:
        ready = dict(poll.poll(max(0.0, end - time.monotonic()) * 1_000))
        if not ready:
            raise TimeoutError(f"no answer within {seconds:g} s")
        if ready.get(_input(child)):
            unsent[0] = unsent[0][os.write(_input(child), unsent[0][:PIECE]) :]
            if not unsent[0]:
                unsent.pop(0)
            if not unsent:
                poll.unregister(_input(child))
        if ready.get(_output(child)):
            data = os.read(_output(child), min(PIECE, size - len(answer)) or 1)
            if not data:
                raise EOFError
            answer += data
    return bytes(answer)


def end(child: subprocess.Popen[bytes]) -> int:
    """Kill the child unless it has ended, let go of it, and return how it ended: a code, or minus the signal."""
    child.kill()
    code = child.wait()
    for stream in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    return code


def pause(deaths: int) -> float:
    """Seconds until a process that died so many times in a row is started anew.

    >>> [pause(deaths) for deaths in (1, 2, 3, 8, 100)]
    [0.1, 0.2, 0.4, 12.8, 30.0]
    """
    return float(min(30.0, 0.1 * 2 ** (min(deaths, 20) - 1)))


# -- in the child -------------------------------------------------------------------------------------------------------


def answers_only() -> IO[bytes]:
    """The pipe the answers go through. What a library prints goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def limit_memory(megabytes: int) -> None:
    """No more private memory than this, and no core file. What is asked for beyond is refused by the system.

    ``RLIMIT_DATA``, not the address space: mapped libraries and what allocators only reserve must not count.
    """
    for kind, most in ((resource.RLIMIT_DATA, megabytes << 20), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower limit stands already
            resource.setrlimit(kind, (most, most))


def answer(answers: IO[bytes], text: str) -> None:
    """A framed answer. Raises OSError when nobody listens."""
    data = text.encode()
    answers.write(LENGTH.pack(len(data)) + data)
    answers.flush()


def read_framed(source: IO[bytes]) -> bytes:
    """A part with its length before it. Raises EOFError."""
    return read_exactly(source, LENGTH.unpack(read_exactly(source, LENGTH.size))[0])


def read_exactly(source: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises EOFError when the input ends before."""
    data = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _input(child: subprocess.Popen[bytes]) -> int:
    assert child.stdin is not None
    return child.stdin.fileno()


def _output(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    return child.stdout.fileno()
