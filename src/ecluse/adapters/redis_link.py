"""One connection from a worker's loop to a Redis: commands leave in order, replies come back in order. The only importer of ``hiredis``.

Requests under way at once share the connection and its writes. Four values cost a worker 8 µs of CPU this way; 67 µs by redis-py's
asyncio client, 61 µs by its blocking one on threads (16 requests at once, one core).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from ecluse.adapters.redis_layout import Address
from ecluse.core.errors import Unavailable

try:
    import hiredis
except ImportError as _error:
    raise Unavailable(f"Redis is not installed: {_error}", cure="pip install 'ecluse[redis]'") from _error

_NOTHING = object()


class Link(asyncio.Protocol):
    """The connection. Every error it meets is told to all who wait; then it is ``lost`` and another must be opened."""

    def __init__(self) -> None:
        self.lost = False
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._asked: deque[tuple[asyncio.Future[list[Any]], int, asyncio.TimerHandle]] = deque()
        self._replies: list[Any] = []
        self._transport: asyncio.Transport | None = None

    def ask(self, commands: bytes, replies: int, seconds: float) -> asyncio.Future[list[Any]]:
        """Send commands that are answered by so many replies (at least one). The future raises Unavailable after ``seconds``.

        A reply that comes later is read and forgotten: those behind it still get theirs.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        if self.lost or self._transport is None:
            future.set_exception(Unavailable("the connection to the online store is lost"))
            return future
        self._asked.append((future, replies, loop.call_later(seconds, _late, future, seconds)))
        self._transport.write(commands)
        return future

    def drop(self, why: str) -> None:
        """Close at once; whoever waits gets Unavailable."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        while self._asked:
            future, _, timer = self._asked.popleft()
            timer.cancel()
            if not future.done():
                future.set_exception(Unavailable(why))

    # -- asyncio calls these ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but no subclass

    def data_received(self, data: bytes) -> None:
        """Hand out every reply that is complete."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                if not self._asked:
                    return self.drop("the online store answered what nobody asked")
                self._replies.append(reply)
                self._hand_out()
        except (hiredis.HiredisError, ValueError, OverflowError, MemoryError):
            self.drop("what the online store answered is not Redis's protocol")
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """The other side is gone."""
        self.drop(f"the connection to the online store was lost{f': {error}' if error else ''}")

    def _hand_out(self) -> None:
        future, wanted, timer = self._asked[0]
        if len(self._replies) < wanted:
            return
        self._asked.popleft()
        timer.cancel()
        replies, self._replies = self._replies, []
        if not future.done():
            future.set_result(replies)


def command(*words: bytes) -> bytes:
    r"""A command as Redis reads it.

    >>> command(b"GET", b"a")
    b'*2\r\n$3\r\nGET\r\n$1\r\na\r\n'
    """
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def complaint(replies: Sequence[Any]) -> str:
    """What Redis complains of in these replies; ``""`` when it does not."""
    return next((str(reply)[:200] for reply in replies if isinstance(reply, hiredis.ReplyError)), "")


async def open_link(address: Address, password: str, seconds: float) -> Link:
    """A connection that may be used: authenticated, on its database. Raises Unavailable within ``seconds``."""
    context = ssl.create_default_context() if address.tls else None
    loop = asyncio.get_running_loop()
    hello = [command(b"SELECT", b"%d" % address.database)]
    if password:
        hello.insert(0, command(b"AUTH", *([address.user.encode()] if address.user else []), password.encode()))
    try:
        async with asyncio.timeout(seconds):
            _, link = await loop.create_connection(Link, address.host, address.port, ssl=context)
            replies = await link.ask(b"".join(hello), len(hello), seconds)
    except TimeoutError:
        raise _unreachable(address, f"no connection within {seconds * 1_000:.0f} ms") from None
    except OSError as error:
        raise _unreachable(address, error.strerror or type(error).__name__) from error
    if why := complaint(replies):
        link.drop(why)
        raise _unreachable(address, why)
    return link


def _unreachable(address: Address, why: str) -> Unavailable:
    cure = "see whether it runs, `stores.online`, and ECLUSE_ONLINE_PASSWORD if it wants one"
    return Unavailable(f"the online store cannot be reached: {why}", where=str(address), cure=cure)


def _late(future: asyncio.Future[list[Any]], seconds: float) -> None:
    if not future.done():
        future.set_exception(Unavailable(f"the online store did not answer within {seconds * 1_000:.0f} ms"))
