"""A network that fails on command: a TCP proxy before a real server, on a thread of its own.

    with FaultProxy("127.0.0.1", 6379) as proxy:
        proxy.fault = "blackhole"   # from now on, on open connections too

"pass" hands on; "refuse" lets nobody connect and resets who is; "reset" takes connections and resets them at the first byte;
"blackhole" takes everything and answers nothing; "slow" answers half a second late; "garbage" answers noise; "flip" changes one byte of
each answer; "drip" answers a byte every 20 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from types import TracebackType
from typing import Literal, Self

Fault = Literal["pass", "refuse", "reset", "blackhole", "slow", "garbage", "flip", "drip"]
FAULTS: tuple[Fault, ...] = ("refuse", "reset", "blackhole", "slow", "garbage", "flip", "drip")
LATE_SECONDS, DRIP_SECONDS = 0.5, 0.02
_LINGER_NOT = struct.pack("ii", 1, 0)


class FaultProxy:
    """Listens on a free ``port`` of the loopback address while in its ``with`` block."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self._target, self._noise = (host, port), random.Random(seed)
        self._fault: Fault = "pass"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._on_loop(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_loop(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def fault(self) -> Fault:
        """What is wrong with the network now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._on_loop(self._become(fault))

    def _on_loop(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _become(self, fault: Fault) -> None:
        self._fault = fault
        if fault == "refuse":
            await self._close()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for client in list(self._clients):
            _reset(client)

    async def _stop(self) -> None:
        await self._close()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # they end with their connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        try:
            there, back = await asyncio.open_connection(*self._target)
            up = asyncio.ensure_future(self._upward(reader, back, writer))
            down = asyncio.ensure_future(self._downward(there, writer))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel(), down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
                back.close()
        except OSError:
            _reset(writer)
        finally:
            self._tasks.discard(task)
            self._clients.discard(writer)
            writer.close()

    async def _upward(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65_536):
            if self._fault == "reset":
                return _reset(client)
            if self._fault != "blackhole":
                back.write(data)
                await back.drain()
        return None

    async def _downward(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(65_536):
            if self._fault == "blackhole":
                continue
            if self._fault == "slow":
                await asyncio.sleep(LATE_SECONDS)
            if self._fault == "drip":
                for byte in data:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(DRIP_SECONDS)
                continue
            writer.write(self._spoiled(data))
            await writer.drain()

    def _spoiled(self, data: bytes) -> bytes:
        if self._fault == "garbage":
            return self._noise.randbytes(len(data))
        if self._fault == "flip":
            at = self._noise.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << self._noise.randrange(8)]) + data[at + 1 :]
        return data


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset instead of an end."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()
