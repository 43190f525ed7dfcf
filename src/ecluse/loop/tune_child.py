"""The parent's end of a process of trials (``ecluse.tuner``): started, given trials one after the other, ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecluse.core.errors import Unavailable


@dataclass
class TrialProcess:
    """One process of trials; ``rest`` holds what it said and nobody read yet."""

    process: subprocess.Popen[bytes]
    rest: bytearray = field(default_factory=bytearray)

    def say(self, facts: Mapping[str, Any]) -> None:
        """A line to it; one that has died is found out by :meth:`hear`."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(facts).encode() + b"\n")
            self.process.stdin.flush()

    def hear(self, end: float | None) -> dict[str, Any]:
        """Its next line. Raises TimeoutError at ``end`` (monotonic seconds), EOFError when it has ended."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.rest:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            if not select.select([descriptor], [], [], left)[0]:
                continue
            data = os.read(descriptor, 65_536)
            if not data:
                raise EOFError(f"the process of trials ended with code {self.process.wait()}")
            self.rest += data
        line, _, rest = bytes(self.rest).partition(b"\n")
        self.rest = bytearray(rest)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Kill it unless it has ended; again is harmless."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def spawn(root: Path, arguments: Sequence[str], workers: int) -> TrialProcess:
    """``python -m ecluse.tuner`` in the project's folder, with its share of the cores. Raises Unavailable."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // workers))}
    command = [sys.executable, "-m", "ecluse.tuner", *arguments]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, env=threads | os.environ
        )
    except OSError as error:
        raise Unavailable(f"no process could be started: {error}", where=str(root), cure="try again") from error
    return TrialProcess(process)
