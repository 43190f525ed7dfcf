"""All parts of a project under one supervisor: ``python -m ecluse.up --home .ecluse/dev --parts '{"loop": ["python", …]}'``.

It takes ``up.lock``, starts the parts (data plane, loop, the page of the tracking mirror), lets them write to its one log, starts one that
dies anew with back-off, and stops them all at SIGTERM or SIGINT. It loads the standard library only. Should it be killed, Linux stops them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecluse.adapters.child_process import pause
from ecluse.adapters.log_lines import log_to_stderr
from ecluse.adapters.serve_lock import ServeLock
from ecluse.core.errors import Conflict, EcluseError, InvalidInput, NotFound

LOCK = "up.lock"
TICK_SECONDS = 0.05
STEADY_SECONDS = 30.0
"""A part that lived so long was well: its death is a first one."""
HOPELESS = (2, 4, 5, 7)
"""Exit codes of a wrong declaration, something that is not there, a conflict, damage: at the start they are told, not tried again."""
_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>
_log = logging.getLogger("ecluse.up")


def main(arguments: Sequence[str] | None = None) -> int:
    """Supervise until SIGTERM or SIGINT. Returns the exit code; errors are one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m ecluse.up", description="All parts of a project.", allow_abbrev=False
    )
    parser.add_argument("--home", required=True, type=Path, help="the profile's state, such as .ecluse/dev")
    parser.add_argument("--parts", required=True, help="name -> command line, as JSON")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds the parts may take to stop")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    given = parser.parse_args(arguments)
    log_to_stderr(given.log_level)
    try:
        return run(given.home, _commands(given.parts), given.patience)
    except EcluseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def run(home: Path, commands: Mapping[str, Sequence[str]], patience: float) -> int:
    """Supervise the parts. Returns 0, or the exit code of one that could not start or did not end well. Raises Conflict, NotFound."""
    if not home.is_dir():
        raise NotFound(f"no state at {home}", cure="run `ecluse init` first, or name another --home")
    lock = _take(home / LOCK)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: asked.append(number))
    lock.tell({"pid": os.getpid(), "parts": sorted(commands)})
    _log.info("up", extra={"facts": {"pid": os.getpid(), "parts": sorted(commands)}})
    parts = [Part(name, command) for name, command in commands.items()]
    code = 0
    while not asked and not code:
        code = next((found for part in parts if (found := part.look(time.monotonic()))), 0)
        time.sleep(TICK_SECONDS)
    ended = _stop(parts, asked, patience)
    _log.info("down", extra={"facts": {"code": code or ended}})
    return code or ended


@dataclass
class Part:
    """One process that is kept: the one running now, how often it died in a row, when the next may start."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    lives: int = 0
    begun: float = 0.0
    not_before: float = field(default=0.0)

    def look(self, now: float) -> int:
        """Start it if there is none and it is time. Returns the exit code of a first life that ended hopelessly, else 0."""
        if self.process is None:
            if now >= self.not_before:
                self.process, self.begun, self.lives = _start(self.command), now, self.lives + 1
            return 0
        code = self.process.poll()
        if code is None:
            return 0
        self.process, young = None, now - self.begun < STEADY_SECONDS
        self.deaths = self.deaths + 1 if young else 1
        self.not_before = now + pause(self.deaths)
        facts = {"part": self.name, "code": code, "again_in": pause(self.deaths)}
        if self.lives == 1 and young and code in HOPELESS:
            _log.error("part cannot start", extra={"facts": {"part": self.name, "code": code}})
            return code
        _log.warning("part died", extra={"facts": facts})
        return 0


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C at the terminal is ours to pass on."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
    )


def _end_with_parent() -> None:
    """Ask the system to stop this process when its parent is gone, where it can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(parts: Sequence[Part], asked: Sequence[int], patience: float) -> int:
    """Ask all parts to end, wait, kill what is left; asked a second time, kill at once. Returns 1 when one did not end well."""
    running = [(part.name, part.process) for part in parts if part.process is not None]
    for _, process in running:
        process.send_signal(signal.SIGTERM)
    end, before = time.monotonic() + patience, len(asked)
    while any(process.poll() is None for _, process in running) and time.monotonic() < end and len(asked) == before:
        time.sleep(TICK_SECONDS)
    bad = 0
    for name, process in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it left behind: children of its own
        code = process.wait()
        if code not in (0, -signal.SIGTERM):
            bad = 1
            _log.warning("part did not end well", extra={"facts": {"part": name, "code": code}})
    return bad


def _take(path: Path) -> ServeLock:
    try:
        return ServeLock.take(path)
    except Conflict:
        holder = path.read_text(errors="replace")
        what = f"`ecluse up` of this project is running already: {holder or 'it is starting'}"
        raise Conflict(what, where=str(path), cure="stop it first") from None


def _commands(text: str) -> dict[str, list[str]]:
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"--parts is not JSON: {error}", cure="give one JSON object") from None
    return {str(name): [str(word) for word in command] for name, command in plain.items()}


if __name__ == "__main__":
    sys.exit(main())
