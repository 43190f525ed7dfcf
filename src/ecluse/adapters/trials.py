"""Trying a bundle in a process that may die, once on each machine, before a process that must not die parses it. Standard library only.

A child (``ecluse/trial.py``) parses, warms and checks the bundle under limits on memory and time. That it survived is noted in a folder of
the owner's alone, with everything it depends on: who starts later with the same bundle, libraries, machine and limits need not try again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from ecluse.adapters.child_process import ask, end, spawn
from ecluse.adapters.files import locked, make_directory, write_atomic
from ecluse.core.bundle import Bundle
from ecluse.core.codec import canonical
from ecluse.core.errors import Corrupt, Unavailable
from ecluse.core.ports import Scorer

SECONDS = 20
"""How long parsing, warming and checking one bundle may take, on the clock and on the CPU."""
IDLE_SECONDS = 1.0
PATIENCE = 20
"""A bundle that failed is tried again after so many times what its trial took: at most a twentieth of a core goes into it."""
LEAST_SECONDS = 5.0
KEPT_NOTES = 100
LIBRARIES = ("numpy", "onnxruntime")


SMOKE = "smoke.json"
OpenScorer = Callable[[Bundle], Scorer]


class Trials:
    """``trials(bundle)`` raises Corrupt for a compiled bundle that does not survive being loaded, Unavailable when none can be tried.

    Safe to call from several threads and processes: one bundle is tried at a time, and only by the first who asks. Bundles that are scored
    by a process of their own pass: they are never parsed here. The child is kept for a second for the next bundle; a bundle that kills
    a child which tried others before is tried again in a new one, so that none is refused for another's sake.
    """

    def __init__(self, folder: Path, megabytes: int, seconds: int = SECONDS) -> None:
        self._folder, self._megabytes, self._seconds = folder, megabytes, seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None

    def __call__(self, bundle: Bundle) -> None:
        """Try the bundle, unless it is noted how that ends."""
        if bundle.manifest.scorer != "onnx" or self._known(bundle):
            return
        with self._lock, _alone(self._folder):
            if self._known(bundle):  # somebody else has tried it meanwhile
                return
            begun = time.monotonic()
            problem = self._try(bundle)
            self._note(bundle, problem, time.monotonic() - begun)
        if problem:
            raise _refused(problem)

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._dismiss()

    def _known(self, bundle: Bundle) -> bool:
        """True when it is noted that the bundle survived. Raises Corrupt while it is noted that it did not."""
        note = _read_note(self._folder, f"{bundle.digest}.json")
        if note is None or note.get("of") != self._facts(bundle):
            return False
        problem, until = str(note.get("problem", "")), note.get("until", 0.0)
        if problem and isinstance(until, float) and time.time() < until:
            raise _refused(problem)
        return not problem

    def _note(self, bundle: Bundle, problem: str, took: float) -> None:
        until = time.time() + max(LEAST_SECONDS, PATIENCE * took)
        with contextlib.suppress(Unavailable):  # a disk that takes nothing costs another trial at the next start
            make_directory(self._folder)
            note = {"of": self._facts(bundle), "problem": problem, "until": until}
            write_atomic(self._folder / f"{bundle.digest}.json", canonical(note))
            _thin(self._folder)

    def _facts(self, bundle: Bundle) -> dict[str, object]:
        """All that the outcome of a trial may depend on."""
        machine = os.uname()
        return {
            "bundle": bundle.digest,
            "megabytes": self._megabytes,
            "seconds": self._seconds,
            "machine": [machine.nodename, machine.sysname, machine.release, machine.machine],
            "libraries": [f"{name} {version(name)}" for name in (__name__.partition(".")[0], *LIBRARIES)],
        }

    def _try(self, bundle: Bundle) -> str:
        """Why the bundle is refused, or ""."""
        if self._idle is not None:
            self._idle.cancel()
        for fresh in (self._child is None, True):
            child = self._child = self._child or spawn("ecluse.trial", str(self._megabytes), str(self._seconds))
            try:
                return self._ask(child, bundle)
            except (OSError, EOFError) as error:
                late, code, self._child = isinstance(error, TimeoutError), end(child), None
            if fresh or late:
                break
        return f"bundle {bundle.digest[:12]} {self._told_by(code, late)}"

    def _ask(self, child: subprocess.Popen[bytes], bundle: Bundle) -> str:
        files = [bundle.files.get(name, b"") for name in ("model.onnx", "schema.json", SMOKE)]
        problem = ask(child, (canonical(bundle.manifest), *files), self._seconds).decode()
        self._idle = threading.Timer(IDLE_SECONDS, self.close)
        self._idle.daemon = True
        self._idle.start()
        return problem

    def _told_by(self, code: int, late: bool) -> str:
        if late or code == -signal.SIGXCPU:
            return f"takes more than {self._seconds} seconds to load"
        if code == -signal.SIGKILL:
            return "was being tried when its process was killed, as the system does when memory is short"
        return f"ends the process that loads it ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def _dismiss(self) -> None:
        if self._child is not None:
            end(self._child)
            self._child = None


def tried(trials: Trials, open_scorer: OpenScorer) -> OpenScorer:
    """``open_scorer`` for whoever must not die of a bundle: tried first. What has no smoke rows yet is being made, here and now."""

    def opened(bundle: Bundle) -> Scorer:
        if SMOKE in bundle.files:
            trials(bundle)
        return open_scorer(bundle)

    return opened


def _refused(problem: str) -> Corrupt:
    return Corrupt(problem, where="trial in a process of its own", cure="train again")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else tries meanwhile; where no lock can be had, as on a full disk, several may."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(Unavailable):
            make_directory(folder)
            held.enter_context(locked(folder / ".lock"))
        yield


def _read_note(folder: Path, name: str) -> dict[str, object] | None:
    """A note that only this user can have written: folder and file are ours and writable by nobody else; None otherwise."""
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
            with os.fdopen(file, "rb") as stream:
                if not (_is_ours(os.fstat(directory)) and _is_ours(os.fstat(file))):
                    return None
                note = json.loads(stream.read(65_536))
        finally:
            os.close(directory)
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _thin(folder: Path) -> None:
    """Forget the oldest notes beyond those kept: to forget one costs a trial, should its bundle ever be asked for again."""
    notes = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in notes[KEPT_NOTES:]:
        path.unlink(missing_ok=True)
