"""Callers who do not wait for one another: requests leave when they are due, whatever became of those before (an open loop).

A closed loop asks less of a server the slower that is, and so never overloads it. Here a request that is due takes an idle connection, or
opens one; its seconds count from when it was due. Nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True)
class Request:
    """One request: when it was due and had left, when its answer was there (monotonic seconds), and what that was."""

    due: float
    sent: float = 0.0
    ended: float = 0.0
    code: str = ""
    headers: bytes = b""
    body: bytes = b""

    @property
    def seconds(self) -> float:
        """From when it was due: what a caller waits."""
        return self.ended - self.due

    @property
    def answered(self) -> float:
        """From when it left: what the server takes."""
        return self.ended - self.sent


@dataclass
class Offered:
    """All requests of a run, in the order in which they were due."""

    requests: list[Request] = field(default_factory=list)

    @property
    def codes(self) -> Counter[str]:
        return Counter(request.code for request in self.requests)

    def of(self, code: str) -> list[Request]:
        """Those that ended so."""
        return [request for request in self.requests if request.code == code]

    def rate(self, code: str = "ok") -> float:
        """How many ended so in each second."""
        ended = [request.ended for request in self.requests if request.code == code]
        return len(ended) / (max(ended) - self.requests[0].due) if ended else 0.0


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, idle: list[_Connection]) -> None:
        self._idle, self._data = idle, b""
        self._request: Request | None = None
        self._done: asyncio.Future[None] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: Request, data: bytes) -> asyncio.Future[None]:
        self._request, self._data = request, b""
        done = self._done = asyncio.get_running_loop().create_future()
        request.sent = time.monotonic()
        if self._transport.is_closing():
            self._end("lost", b"", b"")
        else:
            self._transport.write(data)
        return done

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        lower = head.lower()
        if found and len(body) >= int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0):
            closing = b"connection: close" in lower
            status = int(head[9:12])
            self._end("ok" if status == 200 else str(json.loads(body)["code"]), head, body)
            if closing:
                self._transport.close()
            else:
                self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        self._end("lost", b"", b"")

    def close(self) -> None:
        self._transport.close()

    def _end(self, code: str, headers: bytes, body: bytes) -> None:
        request, self._request = self._request, None
        if request is not None and self._done is not None:
            request.ended, request.code = time.monotonic(), code
            request.headers, request.body = headers, body
            if not self._done.done():
                self._done.set_result(None)


def http(body: object, path: str = "/predict") -> bytes:
    """A whole request."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


async def offer(url: str, data: Sequence[bytes], *, rate: float, seconds: float, connections: int = 1_000) -> Offered:
    """Send ``data`` in turn, ``rate`` a second, each when it is due. One for which no connection can be had ends as "unsent"."""
    offered, idle, running = Offered(), list[_Connection](), set[asyncio.Task[None]]()
    place, began = _place(url), time.monotonic()
    for number in range(int(rate * seconds)):
        request = Request(began + number / rate)
        offered.requests.append(request)
        if (wait := request.due - time.monotonic()) > 0.001:
            await asyncio.sleep(wait)
        elif number % 16 == 0:
            await asyncio.sleep(0)
        connection = idle.pop() if idle else None
        if connection is None and len(running) >= connections:
            request.ended, request.code = time.monotonic(), "unsent"
            continue
        task = asyncio.ensure_future(_ask(place, connection, idle, request, data[number % len(data)]))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    for connection in idle[:]:
        connection.close()
    await asyncio.sleep(0)
    return offered


async def crowd(url: str, data: Sequence[bytes], *, connections: int, seconds: float) -> Offered:
    """A closed loop: so many connections, each asks again as soon as it is answered. One that is closed is opened anew."""
    place, offered, end = _place(url), Offered(), time.monotonic() + seconds

    async def caller(number: int) -> None:
        idle: list[_Connection] = []
        while True:  # once at least, also on a machine that stood still meanwhile
            offered.requests.append(request := Request(time.monotonic()))
            await _ask(place, idle.pop() if idle else None, idle, request, data[number % len(data)])
            if time.monotonic() >= end:
                break
        for connection in idle[:]:
            connection.close()

    await asyncio.gather(*(caller(number) for number in range(connections)))
    await asyncio.sleep(0)
    return offered


async def burst(url: str, data: Sequence[bytes]) -> Offered:
    """Each on a connection of its own, opened before, all at once."""
    loop, place, offered = asyncio.get_running_loop(), _place(url), Offered()
    opened = [await loop.create_connection(lambda: _Connection([]), *place) for _ in data]
    began = time.monotonic()
    offered.requests = [Request(began) for _ in data]
    asked = [each[1].ask(request, sent) for each, request, sent in zip(opened, offered.requests, data, strict=True)]
    await asyncio.gather(*asked)
    for _, connection in opened:
        connection.close()
    return offered


async def _ask(
    place: tuple[str, int], connection: _Connection | None, idle: list[_Connection], request: Request, data: bytes
) -> None:
    try:
        if connection is None:
            _, connection = await asyncio.get_running_loop().create_connection(lambda: _Connection(idle), *place)
        await asyncio.wait_for(connection.ask(request, data), 30)
    except (OSError, TimeoutError) as error:
        request.ended, request.code = time.monotonic(), type(error).__name__
