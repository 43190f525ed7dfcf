"""Listen: the control API on a port until SIGTERM. The only importer of uvicorn."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable

import uvicorn

from ecluse.core.errors import InvalidInput, Unavailable
from ecluse.web.doorkeeper import Asgi

CONNECTIONS_PER_REQUEST = 4
GRACE_SECONDS = 10


def listen(app: Asgi, host: str, port: int, max_in_flight: int, said: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``said`` hears the address once it is bound. Raises InvalidInput, Unavailable when it cannot be bound."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        limit_concurrency=CONNECTIONS_PER_REQUEST * max_in_flight,
        h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    bound = bind(host, port)
    said(f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}")
    if threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGTERM, lambda *_: None
        )  # uvicorn raises it again after its clean stop, which is no failure
    try:
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        bound.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InvalidInput for a port that is none, Unavailable."""
    if not 0 <= port <= 65_535:  # getaddrinfo would take it modulo 65536
        raise InvalidInput(f"port {port}", where="[control] port or --port", cure="choose one from 0 (any) to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        where, cure = f"{host}:{port}", "choose another address: `[control] host` and `port`"
        raise Unavailable(f"the address cannot be bound: {error.strerror}", where=where, cure=cure) from None
