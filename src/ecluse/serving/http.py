"""HTTP -> the data plane: a bare ASGI application. One reply for each request, a problem for every "no"."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ecluse.core.errors import Unavailable
from ecluse.core.ports import Journal
from ecluse.serving.access import Hosts, demand, identify
from ecluse.serving.body import Gone, Receive
from ecluse.serving.call import PROBLEM, Call, Reply
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, problem_body
from ecluse.serving.routes import OPEN, Router
from ecluse.serving.validate import read_request_id

Send = Callable[[dict[str, Any]], Awaitable[None]]
_log = logging.getLogger("ecluse.serving")


class Application:
    """The ASGI application over a :class:`Plane`."""

    def __init__(self, plane: Plane, router: Router | None = None) -> None:
        self.plane = plane
        self.router = router or Router()
        self.hosts = Hosts(plane.serving.host, plane.serving.hosts)
        self.last_request = 0.0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = self.last_request = time.perf_counter()
        deadline = started + self.plane.serving.deadline_ms / 1_000
        headers = dict(scope["headers"])
        call = Call(scope["method"], scope["path"], headers, receive, started, deadline, secrets.token_hex(8))
        try:
            reply = await self._answer(call)
        except Refused as refused:
            reply = self._refuse(call, refused)
        except Gone:
            return
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets a problem and the log the traceback
            _log.exception("request failed", extra={"facts": {"request_id": call.request_id, "route": call.route}})
            reply = self._refuse(call, Refused("internal_error"))
        self.plane.metrics.count(
            call.route, call.model, call.version, reply.status, reply.code, time.perf_counter() - started
        )
        await self._send(send, call, reply)

    async def turn_away(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request on a connection too many, and close it."""
        call = Call(scope["method"], scope["path"], {}, receive, 0.0, 0.0, secrets.token_hex(8))
        refused = Refused("overloaded", "too many connections are open")
        refused.headers = [(b"connection", b"close")]
        self.plane.metrics.count(call.route, "", "", refused.kind.status, refused.code, 0.0)
        await self._send(send, call, self._refuse(call, refused))

    async def _answer(self, call: Call) -> Reply:
        self.hosts.check(call.headers)
        if (shown := call.headers.get(b"x-request-id")) is not None:
            call.request_id = read_request_id(shown.decode("latin-1"), "X-Request-Id") or call.request_id
        call.hurry()
        route, call.parameters = self.router.find(call.method, call.path)
        call.route = route.path
        if route.permission != OPEN and self.plane.needs_key:
            call.grant = identify(call.headers, self.plane.keys, datetime.now(UTC))
            demand(call.grant, route.permission)
        journal = self.plane.parts.journal
        mark = journal.mark
        reply = await route.handler(self.plane, call)
        if route.method != "GET":
            await self._kept(journal, mark)
        return reply

    async def _kept(self, journal: Journal, mark: int) -> None:
        """Whatever a handler has journaled is kept before its answer leaves. Raises Refused ``log_unavailable``."""
        try:
            await journal.durable(mark)
        except Unavailable as error:
            raise Refused("log_unavailable", error.what) from None

    def _refuse(self, call: Call, refused: Refused) -> Reply:
        if refused.code == "log_unavailable" and call.route != "/ready":
            self.plane.journal_problem = refused.what  # /ready says so at once; the next probe may clear it
        elif refused.code == "feature_store_unavailable" and call.route != "/ready":
            self.plane.online_problem = refused.what
        headers = list(refused.headers)
        if refused.kind.retry_after is not None:
            headers.append((b"retry-after", str(refused.kind.retry_after).encode()))
        if refused.code == "unauthorized":
            headers.append((b"www-authenticate", b"Bearer"))
        if refused.code in ("body_too_large", "body_timeout"):
            headers.append((b"connection", b"close"))  # what is left of the body is not a next request
        return Reply(
            refused.kind.status, problem_body(refused, call.request_id, call.path), PROBLEM, headers, refused.code
        )

    async def _send(self, send: Send, call: Call, reply: Reply) -> None:
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", str(len(reply.body)).encode()),
            (b"x-request-id", call.request_id.encode()),
            *reply.headers,
        ]
        if self.plane.closing:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
