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
BODY_SECONDS = 10.0
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
    """``permission`` names what a request's route asks (None: no such route, "": the route declares nothing); ``grants`` are the keys of now."""

    inner: Asgi
    permission: Callable[[Scope], str | None]
    grants: Callable[[], Sequence[KeyGrant]]
    hosts: Hosts
    max_body_bytes: int
    max_in_flight: int
    in_flight: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is turned away."""
        if scope["type"] != "http":
            return
        if self.in_flight >= self.max_in_flight:
            await tell(send, problem_of(Refused("overloaded")))
            return
        self.in_flight += 1
        try:
            await self._let_in(scope, receive, locked(send))
        finally:
            self.in_flight -= 1

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            self.hosts.check(headers)
            if await self._admit(scope, headers):
                scope[BODY] = await self._whole_body(headers, receive)
            else:
                scope[BODY] = b""  # no such route: nobody looks at it
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
            grant = identify(headers, await asyncio.to_thread(self.grants), datetime.now(UTC))
            if not permission:
                raise Refused("forbidden", "this route declares no permission")
            demand(grant, permission)
            scope[GRANT] = grant
        return True

    async def _whole_body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            raise _too_large(self.max_body_bytes)
        parts, size = [], 0
        async with asyncio.timeout(BODY_SECONDS):
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
    """Answer with a problem."""
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers]
    headers += [(b"content-type", b"application/problem+json"), (b"content-length", str(len(problem.body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body})
