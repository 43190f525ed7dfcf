"""The HTTP server around the application, and its end: the only importer of ``uvicorn`` and ``uvloop``.

SIGTERM: /ready says no and every answer closes its connection; when requests have ceased (or half of ``drain_seconds`` has passed) the
listener closes, requests in flight are finished, and ``serve`` returns. SIGINT does not wait for requests to cease.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Generator

import uvicorn
import uvloop

from ecluse.core.errors import Conflict, InvalidInput
from ecluse.serving.http import Application

QUIET_SECONDS = 0.5


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
        http="httptools",
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
