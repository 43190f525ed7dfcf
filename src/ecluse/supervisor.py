"""Several workers on one port: ``python -m ecluse.supervisor --home .ecluse/dev --serving '{"workers": 2}'``.

It takes ``serve.lock``, binds once, starts workers w1 to wN on the shared listener (each with a journal of its own), replaces one that dies
or hangs, and passes SIGTERM and SIGINT on. It answers no request and loads the standard library only. Should it be killed, its workers drain.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ecluse.adapters.child_process import pause
from ecluse.adapters.log_lines import log_to_stderr
from ecluse.adapters.serve_lock import FILE as LOCK
from ecluse.adapters.serve_lock import ServeLock
from ecluse.core.codec import from_plain
from ecluse.core.errors import DeclarationError, EcluseError, InvalidInput, NotFound
from ecluse.core.settings import Serving
from ecluse.serving.board import clear
from ecluse.serving.listener import OUT, Turns, bind, url_of

MOST_WORKERS = 64
TICK_SECONDS = 0.05
STEADY_SECONDS = 30.0
"""A worker that lived so long was well: its death is a first one."""
GRACE_SECONDS = 5.0
START_SECONDS, HUNG_SECONDS = 60.0, 10.0
"""How long a worker may say nothing: before its first word, and after. It has one every quarter of a second, whatever it loads meanwhile."""
_log = logging.getLogger("ecluse.supervisor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Supervise until SIGTERM or SIGINT. Returns the exit code; errors are one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m ecluse.supervisor", description="Several workers on one port.", allow_abbrev=False
    )
    parser.add_argument("--home", required=True, type=Path, help="the profile's state, such as .ecluse/dev")
    parser.add_argument("--serving", default="{}", help="the [serving] settings as JSON")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    given, rest = parser.parse_known_args(arguments)  # the rest is the workers'
    log_to_stderr(given.log_level)
    try:
        return run(given.home, _serving(given.serving), ["--log-level", given.log_level, *rest])
    except EcluseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def run(home: Path, serving: Serving, arguments: Sequence[str]) -> int:
    """Supervise the workers of ``home``. Returns 0, or the exit code of workers that could not start or did not end well.

    Raises InvalidInput (number of workers), Conflict (port in use, another server), NotFound, Unavailable.
    """
    if not 1 <= serving.workers <= MOST_WORKERS:
        raise InvalidInput(
            f"{serving.workers} workers", where="[serving] workers or --workers", cure=f"choose 1 to {MOST_WORKERS}"
        )
    if not home.is_dir():
        raise NotFound(
            f"no state at {home}", cure="run `ecluse init` and `ecluse ingest` first, or name another --home"
        )
    lock = ServeLock.take(home / LOCK)
    crew = Crew(home, serving, arguments, lock)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: crew.asked.append(number))
    facts = {"url": url_of(crew.listener), "pid": os.getpid(), "workers": serving.workers}
    lock.tell(facts)
    _log.info("supervising", extra={"facts": facts})
    code = crew.watch()
    _log.info("stopped", extra={"facts": {"code": code}})
    return code


class Crew:
    """The workers and what they share: listener, turns, the lock, and a pipe that ends with this process. Raises as :func:`bind`."""

    def __init__(self, home: Path, serving: Serving, arguments: Sequence[str], lock: ServeLock) -> None:
        self.asked: list[int] = []
        self.listener = bind(serving.host, serving.port)
        self._serving, self._lock = serving, lock
        self._counts = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this process
        turns = Turns.make(self._counts.fileno(), serving.workers)
        self._lifeline, self._life = os.pipe()
        clear(home / "cache")
        given = json.dumps({key: getattr(serving, key) for key in serving.__dataclass_fields__})
        command = [sys.executable, "-m", "ecluse.worker", "--home", str(home), "--serving", given, *arguments]
        self._posts = [Post(index, [*command, *self._place(index)], each) for index, each in enumerate(turns)]

    def watch(self) -> int:
        """Start them, replace those that die, until asked to stop; then wait for their ends."""
        while not self.asked:
            for post in self._posts:
                code = post.look(self._shared)
                if code and not any(each.has_served for each in self._posts):
                    self._stop(signal.SIGTERM)
                    return code  # not one could start: it is no accident, and how the others ended says no more
            time.sleep(TICK_SECONDS)
        return self._stop(self.asked[0])

    @property
    def _shared(self) -> tuple[int, ...]:
        return self.listener.fileno(), self._counts.fileno(), self._lifeline, self._lock.descriptor

    def _place(self, index: int) -> list[str]:
        shared = self.listener.fileno(), self._counts.fileno(), self._lifeline, index
        return ["--worker", f"w{index + 1}", "--place", ",".join(map(str, shared))]

    def _stop(self, number: int) -> int:
        """Pass a signal on, wait as long as a drain may take, kill what is left. Returns 1 when a worker did not end well."""
        self.listener.close()  # the last worker to end closes the port
        patience = self._serving.drain_wait + 1.5 * self._serving.drain_seconds + GRACE_SECONDS
        end, passed = time.monotonic() + patience, 0
        running = [post.process for post in self._posts if post.process is not None]
        for process in running:
            process.send_signal(number)
        while any(process.poll() is None for process in running) and time.monotonic() < end:
            if len(self.asked) > passed + 1:  # asked again: SIGINT after SIGTERM cuts the waiting short
                passed += 1
                for process in running:
                    process.send_signal(self.asked[passed])
            time.sleep(TICK_SECONDS)
        for process in running:
            process.kill()
        codes = [process.wait() for process in running]
        return int(not all(code in (0, -number) for code in codes))  # -number: it had not yet begun to serve


class Post:
    """One worker's post: the process on it now, how long it has said nothing, how often it has died in a row, when the next may start."""

    def __init__(self, index: int, command: Sequence[str], turns: Turns) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.has_served = False
        self._name, self._command, self._turns = f"w{index + 1}", command, turns
        self._deaths, self._begun, self._not_before = 0, 0.0, 0.0
        self._heard, self._silent, self._looked, self._patience = turns.beats, 0.0, 0.0, START_SECONDS

    def look(self, shared: Sequence[int]) -> int:
        """Start the worker if there is none and it is time. Returns the exit code of one found dead by an error of its own, else 0."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._not_before:
                self.process, self._begun = subprocess.Popen(self._command, pass_fds=shared), now
                self._heard, self._silent, self._looked, self._patience = self._turns.beats, 0.0, now, START_SECONDS
            return 0
        self.has_served = self.has_served or not self._turns.out
        code = self.process.poll()
        if code is None:
            self._listen(self.process, now)
            return 0
        self._turns.say(OUT)
        self.process = None
        self._deaths = 1 if now - self._begun > STEADY_SECONDS else self._deaths + 1
        self._not_before = now + pause(self._deaths)
        facts = {"worker": self._name, "code": code, "again_in": pause(self._deaths)}
        _log.warning("worker died", extra={"facts": facts})
        return max(0, code)

    def _listen(self, process: subprocess.Popen[bytes], now: float) -> None:
        """Kill a worker that has said nothing for too long: its loop is blocked, or it was stopped. Only time in which we ran counts."""
        elapsed, self._looked = min(now - self._looked, 4 * TICK_SECONDS), now
        if (heard := self._turns.beats) != self._heard:
            self._heard, self._silent, self._patience = heard, 0.0, HUNG_SECONDS
            return
        self._silent += elapsed
        if self._silent > self._patience:
            _log.warning(
                "worker hung", extra={"facts": {"worker": self._name, "silent_seconds": round(self._silent, 1)}}
            )
            process.kill()
            self._silent = 0.0


def _serving(text: str) -> Serving:
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise DeclarationError(f"--serving is not JSON: {error}", cure="give one JSON object") from None
    return from_plain(Serving, plain, where="--serving")


if __name__ == "__main__":
    sys.exit(main())
