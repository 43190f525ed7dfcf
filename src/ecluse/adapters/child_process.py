"""A child process of ours: started without our secrets, spoken to in framed bytes, killed when it takes too long. Standard library only."""

from __future__ import annotations

import contextlib
import os
import resource
import struct
import subprocess
import sys
import threading
from typing import IO

from ecluse.core.errors import Unavailable

LENGTH = struct.Struct("<Q")
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")


def spawn(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """``python -m module`` with pipes for input and output; it ends when its input does. Raises Unavailable."""
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle: requests in flight are still answered
        )
    except OSError as error:
        raise Unavailable(
            f"no process could be started: {error}", where=module, cure="free memory or processes"
        ) from None


def answers_only() -> IO[bytes]:
    """For the child: the pipe its answers go through. What a library prints goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def limit_memory(megabytes: int) -> None:
    """For the child: no more private memory than this, and no core file. What is asked for beyond is refused by the system.

    ``RLIMIT_DATA``, not the address space: what is only reserved (thread stacks, allocator arenas, mapped libraries) must not count.
    """
    with contextlib.suppress(ValueError, OSError):  # a lower limit stands already
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Deadline:
    """Kills the child when it takes longer: whoever waits for it gets the end of its pipe. ``passed`` says that it was this."""

    def __init__(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed = False
        self._child = child
        self._timer = threading.Timer(seconds, self._kill)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _kill(self) -> None:
        self.passed = True
        self._child.kill()


def write(child: subprocess.Popen[bytes], *parts: bytes) -> None:
    """Send bytes as they are. Raises OSError."""
    assert child.stdin is not None
    for part in parts:
        child.stdin.write(part)
    child.stdin.flush()


def write_framed(child: subprocess.Popen[bytes], *parts: bytes) -> None:
    """Send parts, each with its length before it. Raises OSError."""
    write(child, *(piece for part in parts for piece in (LENGTH.pack(len(part)), part)))


def read(child: subprocess.Popen[bytes], size: int) -> bytes:
    """So many bytes of its answer. Raises EOFError when it ends before."""
    assert child.stdout is not None
    return read_exactly(child.stdout, size)


def read_framed(stream: IO[bytes]) -> bytes:
    """A part with its length before it. Raises EOFError."""
    return read_exactly(stream, LENGTH.unpack(read_exactly(stream, LENGTH.size))[0])


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises EOFError when the stream ends before."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def answer_of(child: subprocess.Popen[bytes]) -> bytes:
    """A framed answer. Raises EOFError when the child ends before."""
    assert child.stdout is not None
    return read_framed(child.stdout)


def end(child: subprocess.Popen[bytes]) -> int:
    """Kill the child unless it has ended, let go of it, and return how it ended: a code, or minus the signal."""
    child.kill()
    code = child.wait()
    for stream in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what was still buffered for a child that is gone
            if stream is not None:
                stream.close()
    return code
