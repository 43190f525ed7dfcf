"""A training in a fresh child process: user code never runs inside the control plane, and nothing of an earlier training is left over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from ecluse.core.errors import Unavailable
from ecluse.core.instants import format_duration, format_instant
from ecluse.core.model import Scalar

UNAVAILABLE = Unavailable.exit_code


@dataclass(frozen=True)
class Child:
    """A training process (see ``training_process``) with the files its output goes to."""

    process: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]


@dataclass(frozen=True)
class Order:
    """What to train: the model of the project in ``root`` under ``profile``, on what was known at ``moment``, in the name of ``actor``;
    a ``dry_run`` computes the bundle and records nothing; ``parameters`` win over those of ecluse.toml.
    """

    root: Path
    profile: str
    model: str
    moment: datetime
    actor: str
    dry_run: bool = False
    parameters: Mapping[str, Scalar | None] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """The command line."""
        which = ["--project", str(self.root), "--profile", self.profile, "--model", self.model]
        how = ["--json", "--no-register", "--no-plots", "--as-of", format_instant(self.moment)]
        chosen = [part for each in self.parameters.items() for part in ("--set", f"{each[0]}={json.dumps(each[1])}")]
        return ["train", *which, *how, *chosen, *(["--dry-run"] if self.dry_run else [])]


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code and the JSON it printed (``{}`` when it printed none); ``last`` is the end of its stderr."""

    code: int
    answer: dict[str, Any]
    last: str

    @property
    def why(self) -> str:
        """What a failed child says about it."""
        error = self.answer.get("error")
        if isinstance(error, dict):
            return "; ".join(str(error[key]) for key in ("what", "where", "cure") if error.get(key))
        return f"the training process ended with code {self.code}" + (f": {self.last}" if self.last else "")


def spawn(root: Path) -> Child:
    """A process that gets ready and waits for its order. Raises Unavailable."""
    command = [sys.executable, "-m", "ecluse.loop.training_process"]
    with contextlib.ExitStack() as undo:
        # Files, not pipes: nobody reads while it runs, and a full pipe would stop it.
        out, err = (undo.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, cwd=root, env=_half_the_cores() | os.environ
            )
        except OSError as error:
            raise Unavailable(f"no process could be started: {error}", where=str(root), cure="try again") from error
        undo.pop_all()
    return Child(process, out, err)


def _half_the_cores() -> dict[str, str]:
    """A training has a twin that proves it repeatable, and a server beside it. OpenMP's threads spin while they wait for a core that others
    have: with as many as cores, a fit of 0.6 s took 5 s on a busy machine. The learners they matter to are indifferent to their number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // 2))}


def give(child: Child, order: Order) -> None:
    """Let a waiting child begin. One that died before it was asked says so in :func:`wait_for`."""
    assert child.process.stdin is not None
    line = json.dumps({"arguments": order.arguments, "actor": order.actor}) + "\n"
    with contextlib.suppress(BrokenPipeError):
        child.process.stdin.write(line.encode())
        child.process.stdin.flush()


def wait_for(child: Child, limit: timedelta | None = None) -> Ended:
    """The end of a child; one that takes longer than ``limit`` is ended. Raises Unavailable when it could not reach what it needs."""
    late = ""
    try:
        try:
            code = child.process.wait(None if limit is None else limit.total_seconds())
        except subprocess.TimeoutExpired:
            late = f"it took longer than {format_duration(limit or timedelta())} and was ended"
            code = end(child)
        child.out.seek(0)
        child.err.seek(0)
        out, err = child.out.read(), child.err.read().decode(errors="replace").strip().splitlines()
    finally:
        dismiss(child)  # whoever interrupts the loop interrupts the training
    try:
        answer = json.loads(out)
    except ValueError:
        answer = {}
    ended = Ended(code, answer if isinstance(answer, dict) else {}, late or (err[-1] if err else ""))
    if ended.code == UNAVAILABLE:
        raise Unavailable(ended.why, where="training process")
    return ended


def dismiss(child: Child) -> None:
    """End a child, if it has not ended, and let go of it; again is harmless."""
    end(child)
    for file in (child.process.stdin, child.out, child.err):
        if file is not None:
            with contextlib.suppress(BrokenPipeError):
                file.close()


def end(child: Child) -> int:
    """Kill a child with all it began, unless it has ended, and return how it ended.

    It has no process group of its own: a Ctrl-C at the terminal must reach it, so what it began is looked up.
    """
    begun = _begun_by(child.process.pid) if child.process.poll() is None else []
    child.process.kill()
    for pid in begun:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return child.process.wait()


def _begun_by(pid: int) -> list[int]:
    """The processes that one began, and those that these did. Where the system does not tell (it is not Linux): none."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            for each in map(int, file.read_text().split()):
                found += [each, *_begun_by(each)]
    return found
