"""HTTP -> the data plane: a bare ASGI application. Routes, admission, one reply for each request, problems for every "no"."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ecluse.core.errors import EcluseError
from ecluse.serving.access import OPEN_ROUTES, check_host, check_key
from ecluse.serving.body import Gone, Receive, read_body
from ecluse.serving.health import health, models, unready
from ecluse.serving.metrics import CONTENT_TYPE
from ecluse.serving.outcomes import read_outcomes, write_outcomes
from ecluse.serving.plane import Plane
from ecluse.serving.predict import conclude, prepare, run
from ecluse.serving.problems import Refused, excerpt, problem_body
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import parse_object, read_request_id

Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON, _PROBLEM = b"application/json", b"application/problem+json"
_log = logging.getLogger("ecluse.serving")
_encode = msgspec.json.Encoder().encode


@dataclass
class Call:
    """One request on its way, and what is to be counted and answered about it."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive
    started: float
    request_id: str
    route: str = "other"
    model: str = ""
    version: str = ""


@dataclass(frozen=True)
class Reply:
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    kind: bytes = _JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    code: str = "ok"


Handler = Callable[[Call, str | None], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """A path (``{name}`` is a model's), its method and who answers."""

    path: str
    method: str
    handler: Handler
    pattern: re.Pattern[str]


class Application:
    """The ASGI application over a :class:`Plane`."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.last_request = 0.0
        self._routes = [
            _route("POST", "/predict", self._predict),
            _route("POST", "/models/{name}/predict", self._predict),
            _route("POST", "/outcomes", self._outcomes),
            _route("POST", "/models/{name}/outcomes", self._outcomes),
            _route("GET", "/health", self._health),
            _route("GET", "/ready", self._ready),
            _route("GET", "/metrics", self._metrics),
            _route("GET", "/models", self._models),
        ]
        self._plain = {(route.method, route.path): route for route in self._routes if "{" not in route.path}

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = self.last_request = time.perf_counter()
        headers = dict(scope["headers"])
        call = Call(scope["method"], scope["path"], headers, receive, started, secrets.token_hex(8))
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

    async def _answer(self, call: Call) -> Reply:
        check_host(call.headers, self.plane.serving.host)
        if (shown := call.headers.get(b"x-request-id")) is not None:
            call.request_id = read_request_id(shown.decode("latin-1"), "X-Request-Id") or call.request_id
        route, name = self._find(call)
        call.route = route.path
        if self.plane.needs_key and route.path not in OPEN_ROUTES:
            check_key(call.headers, self.plane.keys)
        return await route.handler(call, name)

    def _find(self, call: Call) -> tuple[Route, str | None]:
        method = "GET" if call.method == "HEAD" else call.method
        if (route := self._plain.get((method, call.path))) is not None:
            return route, None
        fitting = [(route, match) for route in self._routes if (match := route.pattern.fullmatch(call.path))]
        for route, match in fitting:
            if route.method == method:
                return route, match.groupdict().get("name")
        if fitting:
            refused = Refused("method_not_allowed", f"{call.path[:80]} does not take {excerpt(call.method)}")
            refused.headers = [(b"allow", ", ".join(sorted({route.method for route, _ in fitting})).encode())]
            raise refused
        raise Refused("not_found", f"no route {excerpt(call.path)}")

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _predict(self, call: Call, name: str | None) -> Reply:
        plane = self.plane
        with _Admitted(plane):
            body = await self._body(call)
            loaded = self._champion(name)  # taken once: validation, score and answer are of one version
            call.model, call.version = loaded.model, str(loaded.number)
            value = parse_object(body)
            _take_request_id(call, value)
            case = prepare(loaded, value, call.request_id, plane.parts.online, plane.now(), call.started)
            scores = await self._deadline(asyncio.to_thread(run, case)) if loaded.blocking else run(case)
            answer, prediction = conclude(case, scores, plane.parts.journal)
        plane.metrics.journal_records.labels("prediction").inc()
        for feature in prediction.unseen:
            plane.metrics.unseen.labels(loaded.model, feature).inc()
        if prediction.degraded:
            plane.metrics.degraded.labels(loaded.model).inc()
        named = [(b"x-ecluse-model", loaded.model.encode()), (b"x-ecluse-version", call.version.encode())]
        return Reply(200, answer, headers=named)

    async def _outcomes(self, call: Call, name: str | None) -> Reply:
        with _Admitted(self.plane):
            body = await self._body(call)
            records = read_outcomes(body, self.plane.fleet.champions, name, self.plane.now())
            write_outcomes(records, self.plane.parts.journal)
        self.plane.metrics.journal_records.labels("outcome").inc(len(records))
        return Reply(202, _encode({"accepted": len(records)}))

    async def _health(self, call: Call, name: str | None) -> Reply:
        return Reply(200, _encode(health(self.plane)))

    async def _ready(self, call: Call, name: str | None) -> Reply:
        if (refused := unready(self.plane)) is not None:
            raise refused
        return Reply(200, _encode({"status": "ready", "generation": self.plane.fleet.generation}))

    async def _models(self, call: Call, name: str | None) -> Reply:
        return Reply(200, _encode({"generation": self.plane.fleet.generation, "models": models(self.plane)}))

    async def _metrics(self, call: Call, name: str | None) -> Reply:
        plane = self.plane
        plane.metrics.in_flight.set(plane.in_flight)
        plane.metrics.ready.set(unready(plane) is None)
        with contextlib.suppress(EcluseError):  # an outage of the store is told by ecluse_ready; its last ages stand
            for view, age in plane.feature_ages().items():
                plane.metrics.feature_age.labels(view).set(age)
        return Reply(200, plane.metrics.render(), CONTENT_TYPE)

    # -- what they need -----------------------------------------------------------------------------------------------

    async def _body(self, call: Call) -> bytes | bytearray:
        serving = self.plane.serving
        return await read_body(call.receive, call.headers, serving.max_body_bytes, serving.deadline_ms / 1_000)

    def _champion(self, name: str | None) -> Loaded:
        fleet, document = self.plane.fleet, self.plane.fleet.document
        if document is None or not document.models:
            raise Refused("no_production_version" if self.plane.started else "starting")
        if name is None:
            if len(document.models) > 1:
                raise Refused(
                    "model_required",
                    cure="POST /models/{name}/predict with one of " + ", ".join(sorted(document.models)),
                )
            name = next(iter(document.models))
        if name not in document.models:
            raise Refused(
                "unknown_model", f"no model {excerpt(name)}", cure="models: " + ", ".join(sorted(document.models))
            )
        loaded = fleet.champions.get(name)
        if loaded is None:
            raise Refused("version_not_loaded" if document.models[name].champion else "no_production_version")
        return loaded

    async def _deadline(self, work: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(work, self.plane.serving.deadline_ms / 1_000)
        except TimeoutError:
            raise Refused("deadline_exceeded") from None

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
        return Reply(refused.kind.status, problem_body(refused, call.request_id), _PROBLEM, headers, refused.code)

    async def _send(self, send: Send, call: Call, reply: Reply) -> None:
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", str(len(reply.body)).encode()),
            (b"x-request-id", call.request_id.encode()),
            *reply.headers,
        ]
        if self.plane.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


class _Admitted:
    """A place among the requests in flight, given back at the end. Raises Refused ``overloaded`` when there is none."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def __enter__(self) -> None:
        if self._plane.in_flight >= self._plane.serving.max_in_flight:
            raise Refused("overloaded", f"{self._plane.in_flight} requests are in flight")
        self._plane.in_flight += 1

    def __exit__(self, *error: object) -> None:
        self._plane.in_flight -= 1


def _take_request_id(call: Call, value: Mapping[str, Any]) -> None:
    own = read_request_id(value.get("request_id"))
    if own is not None and b"x-request-id" in call.headers and own != call.request_id:
        raise Refused("invalid_request_id", "header and field differ", field="request_id", cure="send one request id")
    call.request_id = own or call.request_id


def _route(method: str, path: str, handler: Handler) -> Route:
    pattern = re.compile(re.escape(path).replace(r"\{name\}", r"(?P<name>[^/]+)"))
    return Route(path, method, handler, pattern)
