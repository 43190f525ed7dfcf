"""The loop that stays up, as a process: ``python -m ecluse.resident --project . --profile dev``, one of the parts of ``ecluse up``.

It keeps the durable runner launched and training processes waiting, and takes one turn (``loop/resident.py``) after the other until SIGTERM
or SIGINT. User code never runs in it: the project is declared in a child whenever its sources change, and plots and the mirror are made in
another. Stopped in the middle of something it waits a little, then leaves: what was begun goes on with the next start.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from ecluse.adapters.log_lines import log_to_stderr
from ecluse.adapters.project_files import code_digest, read_declaration
from ecluse.app import App, open_app
from ecluse.core.errors import DeclarationError, EcluseError
from ecluse.core.ports import Step, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.loop.beside import beside
from ecluse.loop.child import Child, dismiss
from ecluse.loop.mirror_names import LOOK_SECONDS, look_at_names
from ecluse.loop.named import check_named
from ecluse.loop.resident import Memory, attempt, step
from ecluse.loop.runner import WORK, handle
from ecluse.loop.settle import next_due, settle_all
from ecluse.loop.sources import check_sources

ACTOR = "ecluse up"
GRACE_SECONDS = 4.0
"""How long a turn may go on after the stop. A training takes longer: it is begun anew, its work being durable."""
SOURCES_SECONDS = 5.0
"""How often the project's own sources are looked at."""
DECLARE_SECONDS = 300.0
"""How long importing the project may take; a connection that never answers, opened at import, would stop the loop."""
RESTORE_SECONDS = 60.0
"""How often the mirror is asked to put a moved alias back: a run of it costs seconds, and may fail."""
_log = logging.getLogger("ecluse.resident")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code; errors are one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m ecluse.resident", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", type=Path, default=Path(), help="the project's folder")
    parser.add_argument("--profile", help="dev, staging or prod")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--declare", action="store_true", help="import the project, remember its declaration, and end")
    task.add_argument("--finish", action="store_true", help="make plots and the mirror of what was released, and end")
    task.add_argument("--settle", action="store_true", help="settle truths, judge realised performance, and end")
    given = parser.parse_args(arguments)
    try:
        app = open_app(given.project, profile=given.profile)
        log_to_stderr(app.settings.log.level)
        if given.declare:
            check_sources(app.project, app.settings)
        elif given.finish:
            os.nice(10)  # nothing waits for it
            app.finish()
        elif given.settle:
            os.nice(10)
            settle_all(replace(app.world, actor=ACTOR), app.declared, app.settings)
        else:
            _follow_until_signalled(app)
    except EcluseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _follow_until_signalled(app: App) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    threading.Thread(target=_leave_after, args=(stop,), daemon=True).start()
    follow(app, stop)


def _leave_after(stop: threading.Event) -> None:
    """A thread of the durable runner may be in the middle of a training, and would keep the process."""
    stop.wait()
    time.sleep(GRACE_SECONDS)
    _log.warning("left in the middle", extra={"facts": {"then": "it goes on with the next start"}})
    os._exit(0)


def follow(app: App, stop: threading.Event) -> None:
    """Take turn after turn until ``stop`` is set. Raises DeclarationError, Conflict when another process runs the loop, Unavailable."""
    from ecluse.adapters.durable_dbos import DurableRunner
    from ecluse.adapters.sources import open_drops

    world, settings = replace(app.world, actor=ACTOR), app.settings
    declared, memory, warm = Declared(app), Memory(), list[Child]()
    declared.refresh()

    def work(remember: Step, sequence: int) -> list[int]:
        return handle(world, declared.project, settings, warm, remember, sequence)

    with (
        DurableRunner.launch(app.home, {WORK: work}) as durable,
        _ending(warm),
        _aside(app, "--finish", asked=True) as finishing,
        _aside(app, "--settle") as settling,
        watching(app),
        _watching_names(world, settings, finishing),
        beside("outcomes", Settling(settling, settings.monitoring.settle).look, settings.loop.every.total_seconds()),
    ):
        drops = open_drops(app.root, app.home / "arriving", settings.sources.values())
        _log.info("following", extra={"facts": {"pid": os.getpid(), "sources": sorted(settings.sources)}})
        while not stop.is_set():
            attempt(memory, "declaration", declared.refresh)
            if step(world, declared.project, settings, durable, warm, memory, drops):
                finishing.asked = True
            attempt(memory, "finish", finishing.look)
            stop.wait(settings.loop.every.total_seconds())
    _log.info("stopped", extra={"facts": {"pid": os.getpid()}})


@contextmanager
def watching(app: App) -> Iterator[None]:
    """Releases guarded, objectives watched and people told beside the turns: none waits for a training, nor for another."""
    from ecluse.adapters.server_client import read_metrics
    from ecluse.adapters.webhook import post
    from ecluse.loop.notify import delivering
    from ecluse.loop.objectives import Burns, watch_objectives
    from ecluse.loop.release_guard import Sight, guard_releases

    key, every = os.environ.get("ECLUSE_API_KEY", ""), app.settings.loop.every.total_seconds()
    world, sights, burns = replace(app.world, actor=ACTOR), dict[str, Sight](), Burns()

    def guard() -> None:
        read = functools.cache(lambda: read_metrics(app.home, app.url, key=key))
        try:
            guard_releases(world, app.settings, sights, read)
        finally:  # a model that cannot be looked at keeps no other from being asked for
            watch_objectives(world, app.settings, burns, read)

    with beside("release guard", guard, every), delivering(world, app.settings, post, every):
        yield


@contextmanager
def _watching_names(world: World, settings: Settings, finishing: Aside) -> Iterator[None]:
    """An alias moved in the tracking store is told within seconds, and put back by the mirror."""
    from ecluse.adapters.mlflow_names import names_of

    named = names_of(world.home, settings.mlflow)
    if named is None:
        yield
        return

    asked = float("-inf")

    def look() -> None:
        nonlocal asked
        if look_at_names(world, named) and time.monotonic() - asked >= RESTORE_SECONDS:
            finishing.asked, asked = True, time.monotonic()

    with beside("mirror names", look, LOOK_SECONDS):
        yield


@dataclass
class Declared:
    """The project as declared by its sources now; a mistake in them is told, and the declaration before it holds until it is mended."""

    app: App
    code: str = ""
    looked: float = float("-inf")
    known: Project | None = None

    @property
    def project(self) -> Project:
        """The declaration that holds. There is one after the first :meth:`refresh`."""
        assert self.known is not None
        return self.known

    def refresh(self) -> None:
        """Look at the sources now and then, and declare them anew when they changed. Raises DeclarationError when nothing holds yet."""
        if time.monotonic() - self.looked < SOURCES_SECONDS:
            return
        self.looked, code = time.monotonic(), code_digest(self.app.root)
        if code == self.code:
            return
        remembered = self._remembered()
        try:
            if remembered is None or remembered.code != code:
                _declare(self.app)
                remembered = self._remembered()
            assert remembered is not None, "a project that was declared is remembered"
            check_sources(remembered, self.app.settings)
            check_named(remembered, self.app.settings)
        except DeclarationError as error:
            if self.known is None:
                raise
            self.code = code  # looked at again when it is mended
            _log.error("declaration", extra={"facts": {"why": str(error)}})
            return
        self.known, self.code = remembered, code

    def _remembered(self) -> Project | None:
        stored = self.app.world.state.declaration()
        return None if stored is None else read_declaration(stored)


def _declare(app: App) -> None:
    command, limit = _command(app, "--declare"), DECLARE_SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=app.root, timeout=limit)
    except subprocess.TimeoutExpired:
        cure = "connect and compute in functions, not at import"
        raise DeclarationError(f"importing it took longer than {limit:g} s", where="project.py", cure=cure) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        why = said[-1].removeprefix("error: ") if said else f"code {done.returncode}"
        raise DeclarationError(why)


@dataclass
class Aside:
    """A task of ours in a process of its own, one at a time, when ``asked``: ``--finish`` makes plots and the mirror, ``--settle`` settles."""

    app: App
    task: str
    asked: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None)

    def look(self) -> None:
        """Start it when it is wanted and none runs."""
        if self.process is not None and self.process.poll() is not None:
            if self.process.returncode:
                _log.warning("not finished", extra={"facts": {"task": self.task, "code": self.process.returncode}})
            self.process = None
        if self.asked and self.process is None:
            self.asked, self.process = False, subprocess.Popen(_command(self.app, self.task), cwd=self.app.root)


@dataclass
class Settling:
    """When truths are settled: ``every`` so often after the start (None: never), see :func:`next_due`."""

    aside: Aside
    every: timedelta | None
    due: float = float("-inf")
    began: float | None = None

    def look(self) -> None:
        """Begin when it is due, and when one ended say when the next is."""
        if self.every is None:
            return
        now = time.monotonic()
        if self.due == float("-inf"):
            self.due = now + self.every.total_seconds()  # what starts has other things to do first
        if self.began is None and now >= self.due:
            self.aside.asked, self.began = True, now
        self.aside.look()
        if self.began is not None and self.aside.process is None:
            self.due = next_due(self.began, now, self.every.total_seconds())
            self.began = None


@contextmanager
def _aside(app: App, task: str, *, asked: bool = False) -> Iterator[Aside]:
    aside = Aside(app, task, asked)
    try:
        yield aside
    finally:
        if aside.process is not None:
            aside.process.kill()  # it begins anew with the next start
            aside.process.wait()


@contextmanager
def _ending(children: list[Child]) -> Iterator[None]:
    try:
        yield
    finally:
        for child in children:
            dismiss(child)


def _command(app: App, task: str) -> list[str]:
    which = ["--project", str(app.root), "--profile", app.settings.profile]
    return [sys.executable, "-m", "ecluse.resident", *which, task]


if __name__ == "__main__":
    sys.exit(main())
