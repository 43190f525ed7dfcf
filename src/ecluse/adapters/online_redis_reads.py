"""Port OnlineReads on Redis: what a worker asks of the store, in one round trip, within ``online_read_ms``, never blocking its loop.

After ``FAILURES`` failures in a row the store is left alone; every ``REST_SECONDS`` one request is let through, until one succeeds. What the
control plane writes is in ``online_redis``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ecluse.adapters.breaker import Breaker
from ecluse.adapters.redis_layout import (
    CURE,
    FORMAT,
    format_key,
    moments_key,
    read_address,
    unpack,
    view_key,
)
from ecluse.adapters.redis_link import Link, command, complaint, open_link
from ecluse.core.errors import Corrupt, Unavailable
from ecluse.core.ports import OnlineRow
from ecluse.core.settings import Stores

FAILURES, REST_SECONDS = 5, 0.25
T = TypeVar("T")


class OnlineRedisReads:
    """For one event loop; it connects at the first use, and anew whenever the connection was lost."""

    def __init__(self, stores: Stores, password: str = "") -> None:
        self.address, self._password = read_address(stores.online), password
        self._read, self._connect = stores.online_read_ms / 1_000, stores.online_connect_ms / 1_000
        self._prefix = stores.online_prefix
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._breaker = Breaker(limit=FAILURES, rest=REST_SECONDS)
        self._why = ""  # what went wrong last
        self._heads: dict[str, bytes] = {}  # view -> its HGET up to the entity key

    async def fetch(self, views: Sequence[str], key: str) -> Mapping[str, OnlineRow]:
        """One HGET for each view, all in one write. Raises Unavailable, Corrupt."""
        if not views:
            return {}
        name = key.encode()
        tail = b"$%d\r\n%b\r\n" % (len(name), name)

        def rows(replies: list[Any]) -> dict[str, OnlineRow]:
            return {
                view: unpack(view, key, data) for view, data in zip(views, replies, strict=True) if data is not None
            }

        found = await self._ask(b"".join([self._head(view) + tail for view in views]), len(views), rows)
        if not found:
            await self._check_filled()  # "nothing is known of this entity" is only true of a store that holds something
        return found

    async def newest(self, view: str) -> int | None:
        """One HGET. Raises Unavailable, Corrupt."""
        moment = await self._ask(command(b"HGET", moments_key(self._prefix), view.encode()), 1, _number)
        if moment is None:
            await self._check_filled()
        return moment

    def close(self) -> None:
        """Drop the connection; the next use opens another."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.drop("closed")
        self._link = self._connecting = None

    def _head(self, view: str) -> bytes:
        head = self._heads.get(view)
        if head is None:
            name = view_key(self._prefix, view)
            head = self._heads[view] = b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n" % (len(name), name)
        return head

    async def _check_filled(self) -> None:
        found = await self._ask(command(b"GET", format_key(self._prefix)), 1, _number)
        if found is None:
            raise Unavailable("the online store is empty", where=str(self.address), cure=CURE)
        if found != FORMAT:
            cure = "run workers and `ecluse materialize` of one version"
            raise Unavailable(f"the online store has format {found}, not {FORMAT}", where=str(self.address), cure=cure)

    async def _ask(self, commands: bytes, replies: int, understand: Callable[[list[Any]], T]) -> T:
        """What the replies mean. Whatever goes wrong, in them too, counts as a failure. Raises Unavailable, Corrupt."""
        if not self._breaker.allows():
            raise Unavailable(
                f"the online store is left alone for a moment: {self._why}",
                where=str(self.address),
                cure="it is asked again by itself",
            )
        try:
            link, seconds = self._link, self._read
            if link is None or link.lost:
                link, seconds = await self._connected()
            got = await link.ask(commands, replies, seconds)
            if why := complaint(got):
                raise Unavailable(f"the online store refuses: {why}", where=str(self.address), cure="see its log")
            meaning = understand(got)
        except (Unavailable, Corrupt) as error:
            self._breaker.failed()
            self._why = error.what
            if self._link is not None and (self._breaker.is_open or isinstance(error, Corrupt)):
                self._link.drop("the online store does not answer, or wrongly")  # the next is asked on a new connection
            raise
        self._breaker.succeeded()
        return meaning

    async def _connected(self) -> tuple[Link, float]:
        """A connection, shared by all who wait for one, and what is left of the time to read. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._read
        if self._connecting is None or self._connecting.done():
            self._connecting = loop.create_task(self._open())
            self._connecting.add_done_callback(_heard)
        try:
            await asyncio.sleep(0)  # a timeout wants a task
            async with asyncio.timeout_at(end):
                link = await asyncio.shield(self._connecting)
        except TimeoutError:
            raise Unavailable(f"the online store did not answer within {self._read * 1_000:.0f} ms") from None
        return link, max(0.001, end - loop.time())

    async def _open(self) -> Link:
        self._link = await open_link(self.address, self._password, self._connect)
        return self._link


def _heard(task: asyncio.Task[Link]) -> None:
    """Nobody may have waited long enough to hear why a connection failed; those who come next will."""
    if not task.cancelled():
        task.exception()


def _number(replies: list[Any]) -> int | None:
    (found,) = replies
    if found is None:
        return None
    try:
        return int(found)
    except (TypeError, ValueError):
        raise Corrupt("the online store answered no number", cure=CURE) from None
