"""HTTP -> the data plane: what may be said of a request before its body is read, and one reply for each; a problem for every "no"."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from ecluse.core.access import KeyGrant
from ecluse.core.document import Document
from ecluse.core.errors import Unavailable
from ecluse.serving.access import Hosts, demand, identify
from ecluse.serving.call import JSON, PROBLEM, Call, Reply
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, problem_body
from ecluse.serving.routes import OPEN, Route, Router
from ecluse.serving.validate import REQUEST_ID, read_request_id

_log = logging.getLogger("ecluse.serving")
_CLOSING = frozenset({"body_too_large", "body_timeout"})
"""What is left of the body of such a request is no next request."""

_REMEMBERED, _HOST_BYTES = 1_024, 255


class Application:
    """The application over a :class:`Plane`: :meth:`open` a call, :meth:`enter` it before its body is there, :meth:`answer` it after."""

    def __init__(self, plane: Plane, router: Router | None = None) -> None:
        self.plane = plane
        self.router = router or Router()
        self.hosts = Hosts(plane.serving.host, plane.serving.hosts)
        self.last_request = 0.0
        self._patience = plane.serving.deadline_ms / 1_000
        self._prefix, self._opened = secrets.token_hex(8), 0
        self._allowed = set[bytes]()
        self._known: dict[bytes, KeyGrant] = {}
        self._known_of: Document | None = None

    def open(self, method: str, path: str, headers: Mapping[bytes, bytes], *, keep_alive: bool = True) -> Call:
        """A call that begins now, under a request id of its own."""
        now = self.last_request = time.perf_counter()
        self._opened += 1
        return Call(method, path, headers, now, now + self._patience, f"{self._prefix}{self._opened:x}", keep_alive)

    def enter(self, call: Call) -> None:
        """Everything that can be decided by the head of a request, before a byte of its body is kept: ``call.refused`` is the "no"."""
        try:
            self._check_host(call.headers)
            shown = call.headers.get(b"x-request-id")
            if shown is not None and REQUEST_ID.fullmatch(named := shown.decode("latin-1")):
                call.request_id = named
            route, call.parameters = self.router.find(call.method, call.path)
            call.route, call.handler = route.path, route.handler
            if route.permission != OPEN and self.plane.needs_key:
                call.grant = self._identify(call.headers)
                demand(call.grant, route.permission)
            if shown is not None:  # one that cannot be used is told to who may ask at all
                read_request_id(shown.decode("latin-1"), "X-Request-Id")
            call.hurry()
            if route.takes:
                self.plane.admission.check()
                self._check_body(call.headers, route)
        except Refused as refused:
            call.refused = refused

    async def answer(self, call: Call) -> Reply:
        """The reply to a call whose body is complete. Raises nothing."""
        try:
            if call.refused is not None:
                raise call.refused
            assert call.handler is not None
            journal = self.plane.parts.journal
            mark = journal.mark
            reply = await call.handler(self.plane, call)
            if call.body:
                try:  # whatever a handler has journaled is kept before its answer leaves
                    await journal.durable(mark)
                except Unavailable as error:
                    raise Refused("log_unavailable", error.what) from None
        except Refused as refused:
            return self.refuse(call, refused)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets a problem and the log the traceback
            _log.exception("request failed", extra={"facts": {"request_id": call.request_id, "route": call.route}})
            return self.refuse(call, Refused("internal_error"))
        self._count(call, reply)
        return reply

    def refuse(self, call: Call, refused: Refused) -> Reply:
        """The problem that a refusal is answered with."""
        if refused.code == "log_unavailable" and call.route != "/ready":
            self.plane.journal_problem = refused.what  # /ready says so at once; the next probe may clear it
        elif refused.code == "feature_store_unavailable" and call.route != "/ready":
            self.plane.online_problem = refused.what
        headers = list(refused.headers)
        if refused.kind.retry_after is not None:
            headers.append((b"retry-after", str(refused.kind.retry_after).encode()))
        if refused.code == "unauthorized":
            headers.append((b"www-authenticate", b"Bearer"))
        body = problem_body(refused, call.request_id, call.path)
        reply = Reply(refused.kind.status, body, PROBLEM, headers, refused.code, refused.code in _CLOSING)
        self._count(call, reply)
        return reply

    def _count(self, call: Call, reply: Reply) -> None:
        seconds = time.perf_counter() - call.started
        self.plane.metrics.count(call.route, call.model, call.version, reply.status, reply.code, seconds)

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        shown = headers.get(b"host", b"")
        if shown not in self._allowed:
            self.hosts.check(headers)
            if len(self._allowed) < _REMEMBERED and len(shown) <= _HOST_BYTES:
                self._allowed.add(shown)

    def _identify(self, headers: Mapping[bytes, bytes]) -> KeyGrant:
        """:func:`~ecluse.serving.access.identify`, remembered by the header's hash for as long as the document stays the same."""
        document = self.plane.document
        if document is not self._known_of:
            self._known, self._known_of = {}, document
        shown = hashlib.sha256(headers.get(b"authorization", b"")).digest()
        now = datetime.now(UTC)
        if (grant := self._known.get(shown)) is None or not grant.lives(now):
            grant = identify(headers, self.plane.keys, now)
            if len(self._known) < _REMEMBERED:
                self._known[shown] = grant
        return grant

    def _check_body(self, headers: Mapping[bytes, bytes], route: Route) -> None:
        if (kind := headers.get(b"content-type", JSON)) != JSON and _media_type(kind) not in route.takes:
            raise Refused("unsupported_media_type", f"the body is declared as {kind.decode('latin-1')[:60]}")
        declared, limit = headers.get(b"content-length", b""), self.plane.serving.max_body_bytes
        if declared.isdigit() and int(declared) > limit:
            raise body_too_large(limit)


def body_too_large(limit: int) -> Refused:
    """The refusal of a body with more than ``limit`` bytes."""
    return Refused("body_too_large", f"the body has more than {limit} bytes")


def _media_type(header: bytes) -> bytes:
    return header.split(b";")[0].strip().lower()
