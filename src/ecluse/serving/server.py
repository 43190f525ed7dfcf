"""The server around the application, and its end: the only importer of ``uvloop``.

SIGTERM: /ready says no; after ``drain_wait`` every answer closes its connection; when requests have ceased (or half of ``drain_seconds``
has passed) the listener closes, requests in flight are finished, and ``serve`` returns. SIGINT does not wait for requests to cease.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import uvloop

from ecluse.serving.answers import exposition
from ecluse.serving.connection import Connection
from ecluse.serving.health import unready
from ecluse.serving.http import Application
from ecluse.serving.listener import OUT, Place
from ecluse.serving.plane import Plane

QUIET_SECONDS, ALONE_SECONDS = 0.5, 0.1
"""So long nobody must have asked before the listener closes; less when nobody is connected, which callers are not between two connections."""

YIELD_SECONDS = 0.005
REPORT_SECONDS, BOARD_SECONDS = 0.25, 1.0
TICK_SECONDS = 0.02
DESCRIPTORS = 256
"""For everything that is no connection."""

_NOTHING_LEFT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Alone:
    """Takes every connection of a listener that is this process's only."""

    def __init__(self, application: Application, listener: socket.socket, connections: set[Connection]) -> None:
        self._application, self._listener, self._connections = application, listener, connections
        self._server: asyncio.AbstractServer | None = None

    async def begin(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._application, self._connections), sock=self._listener
        )

    async def end(self) -> None:
        """Take no more."""
        if self._server is not None:
            self._server.close()


class _Taker:
    """Takes connections from a listener that other workers take from too: whoever is ready and has fewest, first.

    A worker that is not ready takes none while another is. One that has more than another waits YIELD_SECONDS: should the other be
    stuck or just dead, the caller has lost no more than that.
    """

    def __init__(self, application: Application, place: Place, connections: set[Connection]) -> None:
        self._application, self._place, self._connections = application, place, connections
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._later: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Take turns from now on."""
        self._loop.add_reader(self._place.listener, self._offered)

    async def end(self) -> None:
        """Take no more; what was taken has become a connection when this returns."""
        self._place.turns.say(OUT)
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._place.listener)
        await asyncio.gather(*self._arriving, return_exceptions=True)

    def tell(self) -> int:
        """Say how many connections are open here, and return it."""
        count = len(self._connections) + len(self._arriving)
        self._place.turns.say(count if unready(self._application.plane) is None else OUT)
        return count

    def _offered(self) -> None:
        if not self._place.turns.lets_another_go_first(self.tell()) and self._take():
            return
        self._loop.remove_reader(self._place.listener)
        self._later = self._loop.call_later(YIELD_SECONDS, self._again)

    def _again(self) -> None:
        self.tell()
        if not self._place.turns.out or self._place.turns.alone:
            self._take()
        self._loop.add_reader(self._place.listener, self._offered)

    def _take(self) -> bool:
        """False when the system has no descriptor left: then whoever waits goes on waiting, and is not to be asked for at once."""
        try:
            connection, _ = self._place.listener.accept()
        except OSError as error:  # else another was faster, or the caller has gone
            return error.errno not in _NOTHING_LEFT
        connection.setblocking(False)
        make = lambda: Connection(self._application, self._connections)  # noqa: E731
        task = self._loop.create_task(self._loop.connect_accepted_socket(make, connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        return True


def serve(
    application: Application, listener: socket.socket, started: Callable[[], None], place: Place | None = None
) -> None:
    """Serve until SIGTERM or SIGINT and everything in flight is answered. ``started`` is called when requests are accepted.

    With a ``place`` the listener is shared with other workers, and the end of its lifeline counts as SIGTERM.
    """
    _make_room(2 * application.plane.serving.max_connections + DESCRIPTORS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(application, listener, started, place))


def _make_room(descriptors: int) -> None:
    """Many systems let a process have 1,024, unless it asks for more: the refusal of a connection too many takes one as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(
    application: Application, listener: socket.socket, started: Callable[[], None], place: Place | None
) -> None:
    loop = asyncio.get_running_loop()
    connections = set[Connection]()
    asked, at_once = asyncio.Event(), asyncio.Event()

    def stop(patient: bool) -> None:
        if not patient:
            at_once.set()
        asked.set()

    def orphaned(lifeline: int) -> None:
        loop.remove_reader(lifeline)
        stop(True)

    loop.add_signal_handler(signal.SIGTERM, stop, True)
    loop.add_signal_handler(signal.SIGINT, stop, False)
    taker = _Taker(application, place, connections) if place else _Alone(application, listener, connections)
    await taker.begin()
    beside = []
    if place is not None and isinstance(taker, _Taker):
        loop.add_reader(place.lifeline, orphaned, place.lifeline)
        beside += [asyncio.create_task(_report(taker)), asyncio.create_task(_hang_up(application.plane))]
    following = asyncio.create_task(application.plane.follow())
    ending = asyncio.create_task(_quiet(application, connections, asked, at_once))
    started()
    done, _ = await asyncio.wait({ending, following}, return_when=asyncio.FIRST_COMPLETED)
    await taker.end()
    await _finish(connections, application.plane.serving.drain_seconds)
    for task in (following, ending, *beside):
        task.cancel()
    await asyncio.gather(following, ending, *beside, return_exceptions=True)
    if following in done:  # it never ends by itself: an error of ours, better dead than deaf
        following.result()


async def _quiet(
    application: Application, connections: set[Connection], asked: asyncio.Event, at_once: asyncio.Event
) -> None:
    """Return when the server may close: it was asked to, and requests have ceased or nobody waits for that."""
    plane = application.plane
    await asked.wait()
    plane.draining = True
    if not at_once.is_set():
        await asyncio.sleep(plane.serving.drain_wait)
    plane.closing = True
    begun = time.perf_counter()
    end = begun + plane.serving.drain_seconds / 2
    while (now := time.perf_counter()) < end and not at_once.is_set():
        last = application.last_request
        if not connections and now - last > ALONE_SECONDS:
            return
        if now - max(last, begun) > QUIET_SECONDS and not plane.in_flight:
            return
        await asyncio.sleep(TICK_SECONDS)


async def _finish(connections: set[Connection], seconds: float) -> None:
    """Close every connection when what it is answering is answered; ``seconds`` later whatever it is doing."""
    for connection in tuple(connections):
        connection.finish()
    end = time.perf_counter() + seconds
    while connections and time.perf_counter() < end:  # noqa: ASYNC110 - they leave one by one
        await asyncio.sleep(TICK_SECONDS)
    for connection in tuple(connections):
        connection.abort()


async def _report(taker: _Taker) -> None:
    """Tell the other workers, again and again, how many connections are here, and the supervisor that this loop runs. It waits for nothing else."""
    while True:
        taker.tell()
        await asyncio.sleep(REPORT_SECONDS)


async def _hang_up(plane: Plane) -> None:
    """Tell the other workers, again and again, what was counted here."""
    while plane.board is not None:
        await asyncio.sleep(BOARD_SECONDS)
        await asyncio.to_thread(plane.board.hang, await exposition(plane))
