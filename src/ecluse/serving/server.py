"""The HTTP server around the application, and its end: the only importer of ``uvicorn`` and ``uvloop``.

SIGTERM: /ready says no; after ``drain_wait`` every answer closes its connection; when requests have ceased (or half of ``drain_seconds``
has passed) the listener closes, requests in flight are finished, and ``serve`` returns. SIGINT does not wait for requests to cease.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ecluse.serving.answers import exposition
from ecluse.serving.call import PROBLEM
from ecluse.serving.health import unready
from ecluse.serving.http import Application
from ecluse.serving.listener import OUT, Place
from ecluse.serving.problems import Refused, problem_body

QUIET_SECONDS = 0.5
HEAD_BYTES = 65_536
YIELD_SECONDS = 0.005
REPORT_SECONDS = 0.25


class _Connection(HttpToolsProtocol):
    """uvicorn's connection with what it lacks: a deadline and a size for headers, a bound on connections, problems as answers.

    A connection on which no request is under way must have sent the whole head of one within ``header_seconds`` of its first byte (or of
    its beginning); between requests uvicorn's own keep-alive timeout holds. The timer is armed only for a head that comes in pieces.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._application = cast(Application, config.app)
        self._limits = self._application.plane.serving
        self._patience: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Arm the deadline of the first head; a connection too many gets one answer, one far too many none."""
        super().connection_made(transport)
        if len(self.connections) > 2 * self._limits.max_connections:
            transport.abort()
        elif len(self.connections) > self._limits.max_connections:
            self.app = self._application.turn_away
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Disarm."""
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; while that brings no request under way, its head is counted and timed."""
        if self._idle:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._idle:
            self._relax()
        elif self._head_bytes > HEAD_BYTES:
            self._turn_down("headers_too_large")
        elif not self.transport.is_closing():
            self._watch()

    def send_400_response(self, msg: str) -> None:
        """A problem instead of uvicorn's plain text."""
        self._turn_down("invalid_request")

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self._limits.header_seconds, self._turn_down, "header_timeout")

    def _relax(self) -> None:
        self._head_bytes = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _turn_down(self, code: str) -> None:
        """Answer what is no request, and close. A connection that sent nothing at all is closed without a word."""
        if self.transport.is_closing():
            return
        if self._head_bytes or code == "invalid_request":
            refused = Refused(code)
            body = problem_body(refused, secrets.token_hex(8))
            head = f"HTTP/1.1 {refused.kind.status} {HTTPStatus(refused.kind.status).phrase}\r\n"
            head += f"content-type: {PROBLEM.decode()}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode() + body)
            self._application.plane.metrics.count("other", "", "", refused.kind.status, code, 0.0)
        self._relax()
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: it closes idle connections at once, which loses requests already on their way."""

    taker: _Taker | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; with a taker it does."""
        if self.taker is None:
            await super().startup(sockets)
            return
        self.servers = []
        self.taker.begin()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and finish those there are."""
        if self.taker is not None:
            await self.taker.end()
        await super().shutdown(sockets)


class _Taker:
    """Takes connections from a listener that other workers take from too: whoever is ready and has fewest, first.

    A worker that is not ready takes none while another is. One that has more than another waits YIELD_SECONDS: should the other be
    stuck or just dead, the caller has lost no more than that.
    """

    def __init__(self, application: Application, server: _Server, place: Place) -> None:
        self._plane, self._server, self._place = application.plane, server, place
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._later: asyncio.TimerHandle | None = None

    def begin(self) -> None:
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
        count = len(self._server.server_state.connections) + len(self._arriving)
        self._place.turns.say(count if unready(self._plane) is None else OUT)
        return count

    def _offered(self) -> None:
        if not self._place.turns.lets_another_go_first(self.tell()):
            self._take()
            return
        self._loop.remove_reader(self._place.listener)
        self._later = self._loop.call_later(YIELD_SECONDS, self._again)

    def _again(self) -> None:
        self.tell()
        if not self._place.turns.out or self._place.turns.alone:
            self._take()
        self.begin()

    def _take(self) -> None:
        try:
            connection, _ = self._place.listener.accept()
        except OSError:  # another was faster, the caller has gone, or no descriptor is left
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._connection, connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _connection(self) -> _Connection:
        return _Connection(self._server.config, self._server.server_state, {})


def serve(
    application: Application, listener: socket.socket, started: Callable[[], None], place: Place | None = None
) -> None:
    """Serve until SIGTERM or SIGINT and everything in flight is answered. ``started`` is called when requests are accepted.

    With a ``place`` the listener is shared with other workers, and the end of its lifeline counts as SIGTERM.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(application, listener, started, place))


async def _serve(
    application: Application, listener: socket.socket, started: Callable[[], None], place: Place | None
) -> None:
    plane = application.plane
    config = uvicorn.Config(
        application,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(plane.serving.drain_seconds)),
    )
    server = _Server(config)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(patient: bool) -> None:
        server.should_exit = server.should_exit or not patient
        asked.set()

    def orphaned(lifeline: int) -> None:
        loop.remove_reader(lifeline)
        stop(True)

    loop.add_signal_handler(signal.SIGTERM, stop, True)
    loop.add_signal_handler(signal.SIGINT, stop, False)
    beside = [asyncio.create_task(_drain(application, server, asked))]
    if place is not None:
        server.taker = _Taker(application, server, place)
        loop.add_reader(place.lifeline, orphaned, place.lifeline)
        beside.append(asyncio.create_task(_report(application, server.taker)))
    following = asyncio.create_task(plane.follow())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has a flag, no event
        await asyncio.sleep(0.005)
    started()
    done, _ = await asyncio.wait({serving, following}, return_when=asyncio.FIRST_COMPLETED)
    if following in done and not serving.done():  # it never ends by itself: an error of ours, better dead than deaf
        server.should_exit = True
        await serving
        following.result()
    for task in (following, *beside):
        task.cancel()
    await asyncio.gather(following, *beside, return_exceptions=True)
    serving.result()


async def _drain(application: Application, server: _Server, asked: asyncio.Event) -> None:
    await asked.wait()
    application.plane.draining = True
    await asyncio.sleep(application.plane.serving.drain_wait)
    application.plane.closing = True
    begun = time.perf_counter()
    end = begun + application.plane.serving.drain_seconds / 2
    while time.perf_counter() < end and server.server_state.connections:
        if (
            time.perf_counter() - max(application.last_request, begun) > QUIET_SECONDS
            and not application.plane.in_flight
        ):
            break
        await asyncio.sleep(0.02)
    server.should_exit = True


async def _report(application: Application, taker: _Taker) -> None:
    """Tell the other workers, again and again, how many connections are here and what was counted."""
    plane = application.plane
    while True:
        for _ in range(4):
            taker.tell()
            await asyncio.sleep(REPORT_SECONDS)
        if plane.board is not None:
            await asyncio.to_thread(plane.board.hang, await exposition(plane))
