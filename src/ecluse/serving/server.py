"""The HTTP server around the application, and its end: the only importer of ``uvicorn`` and ``uvloop``.

SIGTERM: /ready says no and every answer closes its connection; when requests have ceased (or half of ``drain_seconds`` has passed) the
listener closes, requests in flight are finished, and ``serve`` returns. SIGINT does not wait for requests to cease.
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

from ecluse.core.errors import Conflict, InvalidInput
from ecluse.serving.call import PROBLEM
from ecluse.serving.http import Application
from ecluse.serving.problems import Refused, problem_body

QUIET_SECONDS = 0.5
HEAD_BYTES = 65_536


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Conflict when the port is in use, InvalidInput for an address that is not ours."""
    if not 0 <= port <= 65_535:  # getaddrinfo would take it modulo 65536
        raise InvalidInput(f"port {port}", where="[serving] port or --port", cure="choose one from 0 (any) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(
            f"{host!r} is not an address of this machine: {error.strerror}", cure="set [serving] host"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except PermissionError:
        listener.close()
        raise InvalidInput(f"port {port} may not be bound by this user", cure="choose a port above 1023") from None
    except OSError as error:
        listener.close()
        raise Conflict(
            f"port {port} of {host} cannot be bound: {error.strerror}",
            where=f"{host}:{port}",
            cure="stop what listens there, or choose another with --port",
        ) from None
    listener.setblocking(False)
    return listener


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

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(application: Application, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT and everything in flight is answered. ``started`` is called when requests are accepted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(application, listener, started))


async def _serve(application: Application, listener: socket.socket, started: Callable[[], None]) -> None:
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

    loop.add_signal_handler(signal.SIGTERM, stop, True)
    loop.add_signal_handler(signal.SIGINT, stop, False)
    following = asyncio.create_task(plane.follow())
    draining = asyncio.create_task(_drain(application, server, asked))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has a flag, no event
        await asyncio.sleep(0.005)
    started()
    done, _ = await asyncio.wait({serving, following}, return_when=asyncio.FIRST_COMPLETED)
    if following in done and not serving.done():  # it never ends by itself: an error of ours, better dead than deaf
        server.should_exit = True
        await serving
        following.result()
    for task in (following, draining):
        task.cancel()
    await asyncio.gather(following, draining, return_exceptions=True)
    serving.result()


async def _drain(application: Application, server: _Server, asked: asyncio.Event) -> None:
    await asked.wait()
    application.plane.draining = True
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
