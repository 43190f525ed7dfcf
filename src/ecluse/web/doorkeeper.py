"""Doorkeeper: what stands before every route of the control API. Host, route, key and scope, place, size and time, in this order; the default is no.

A bare ASGI application around another one, which sees a request only when it may come in, with its body whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ecluse.core.access import KeyGrant
from ecluse.core.errors import EcluseError
from ecluse.serving.access import Hosts, demand, identify
from ecluse.serving.problems import Refused
from ecluse.web.problems import Problem, problem_named, problem_of

OPEN, SIGNED = "open", "signed"
"""Routes anybody may ask, and those whose body carries its own signature."""
GRANT, BODY = "ecluse.grant", "ecluse.body"
"""Where a route finds who asks, and the bytes of the body."""
BODY_SECONDS, STRANGER_BODY_SECONDS = 10.0, 2.0
"""How long a body may take: of a caller with a key, and of anybody."""
STRANGERS_SHARE = 4
"""Callers without a key have places of their own, so many times fewer than ``max_in_flight``: they can keep nobody else out."""
LOCKED = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
_log = logging.getLogger("ecluse.control")


@dataclass
class Doorkeeper:
    """``permission`` names what a request's route asks (None: no such route, "": the route declares nothing); ``grants`` are the keys of now.

    A request takes a place once its key is known: one of ``max_in_flight``, or of the few for those who show none. ``free``: places by that.
    """

    inner: Asgi
    permission: Callable[[Scope], str | None]
    grants: Callable[[], Sequence[KeyGrant]]
    hosts: Hosts
    max_body_bytes: int
    max_in_flight: int
    free: dict[bool, int] = field(init=False)

    def __post_init__(self) -> None:
        self.free = {True: self.max_in_flight, False: max(1, self.max_in_flight // STRANGERS_SHARE)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is turned away."""
        if scope["type"] != "http":
            return
        headers, sending = dict(scope["headers"]), locked(send)
        try:
            self.hosts.check(headers)
            there = await self._admit(scope, headers)
            known = GRANT in scope
            if not self.free[known]:
                raise Refused("overloaded")
        except EcluseError as error:
            await tell(sending, problem_of(error))
            return
        self.free[known] -= 1
        try:
            await self._let_in(there, scope, headers, receive, sending)
        finally:
            self.free[known] += 1

    async def _let_in(
        self, there: bool, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        seconds = BODY_SECONDS if GRANT in scope else STRANGER_BODY_SECONDS
        try:
            # no such route: nobody looks at the body
            scope[BODY] = await self._whole_body(headers, receive, seconds) if there else b""
        except EcluseError as error:
            await tell(send, problem_of(error))
            return
        except TimeoutError:
            await tell(send, problem_named("body_timeout"))
            return
        try:
            await self.inner(scope, _replayed(scope[BODY], receive), send)
        except Exception:  # noqa: BLE001 - the framework answered with a problem already; the log gets the traceback
            _log.exception("request failed", extra={"facts": {"path": scope["path"]}})

    async def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether there is such a route, once its caller may ask it. Raises Refused."""
        permission = self.permission(scope)
        if permission is None:
            return False
        if permission not in (OPEN, SIGNED):
            # who shows no key is refused without a look at the state
            grants = await asyncio.to_thread(self.grants) if b"authorization" in headers else ()
            grant = identify(headers, grants, datetime.now(UTC))
            if not permission:
                raise Refused("forbidden", "this route declares no permission")
            demand(grant, permission)
            scope[GRANT] = grant
        return True

    async def _whole_body(self, headers: Mapping[bytes, bytes], receive: Receive, seconds: float) -> bytes:
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            raise _too_large(self.max_body_bytes)
        parts, size = [], 0
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self.max_body_bytes:
                    raise _too_large(self.max_body_bytes)
                if not message.get("more_body", False):
                    return b"".join(parts)


def _too_large(limit: int) -> Refused:
    return Refused("body_too_large", f"the body has more than {limit} bytes")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more; after it whatever comes: that the caller left."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def locked(send: Send) -> Send:
    """Send with the headers that keep an answer out of caches, frames and scripts."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *LOCKED]
        await send(message)

    return sending


async def tell(send: Send, problem: Problem) -> None:
    """Answer with a problem. Who had no place, or took it for too long, has its connection closed: those are counted too."""
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers]
    headers += [(b"content-type", b"application/problem+json"), (b"content-length", str(len(problem.body)).encode())]
    if problem.code in ("overloaded", "body_timeout"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body})
