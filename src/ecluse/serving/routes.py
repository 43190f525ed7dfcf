"""The routes of the data plane: which path takes which method, who answers, and what a caller must be allowed. The default is no.

A route without a declared permission cannot be made, so there is none that somebody forgot to protect. To add one, write its handler
(:data:`~ecluse.serving.call.Handler`) in a file of its own and name it in :data:`ROUTES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ecluse.core.access import SCOPES
from ecluse.core.errors import DeclarationError
from ecluse.serving import answers, batch, invocations
from ecluse.serving import inference_protocol as protocol
from ecluse.serving.call import CSV, JSON, OCTETS, Handler
from ecluse.serving.openapi import make_handlers
from ecluse.serving.problems import Refused, excerpt

OPEN = "open"
PERMISSIONS = {OPEN: "anybody, also without a key", **SCOPES}


@dataclass(frozen=True)
class Route:
    """``path`` may hold parts in braces, each one segment: ``/models/{name}/predict``; ``takes`` are the media types of its body, the
    first where none is declared; without any the body is not looked at. Raises DeclarationError.

    >>> Route("GET", "/secrets", "", answers.health)
    Traceback (most recent call last):
    ecluse.core.errors.DeclarationError: route GET /secrets declares no permission; ...
    """

    method: str
    path: str
    permission: str
    handler: Handler
    takes: tuple[bytes, ...] = ()
    pattern: re.Pattern[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.permission not in PERMISSIONS:
            raise DeclarationError(
                f"route {self.method} {self.path} declares no permission",
                cure="declare one of " + ", ".join(PERMISSIONS),
            )
        parts = re.split(r"\{(\w+)\}", self.path)
        text = "".join(f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        object.__setattr__(self, "pattern", re.compile(text))


_openapi, _docs = make_handlers(lambda: ROUTES)

ROUTES: tuple[Route, ...] = (
    Route("POST", "/predict", "predict", answers.predict, (JSON,)),
    Route("POST", "/models/{name}/predict", "predict", answers.predict, (JSON,)),
    Route("POST", "/predict/batch", "predict", batch.predict_batch, (JSON,)),
    Route("POST", "/models/{name}/predict/batch", "predict", batch.predict_batch, (JSON,)),
    Route("POST", "/outcomes", "outcomes", answers.outcomes, (JSON,)),
    Route("POST", "/models/{name}/outcomes", "outcomes", answers.outcomes, (JSON,)),
    Route("GET", "/health", OPEN, answers.health),
    Route("GET", "/ready", OPEN, answers.ready),
    Route("GET", "/metrics", "metrics", answers.metrics),
    Route("GET", "/models", "read", answers.models),
    Route("GET", "/models/info", "read", answers.info),
    Route("POST", "/models/{name}/load/{version}", "control", answers.load),
    Route("GET", "/openapi.json", "read", _openapi),
    Route("GET", "/docs", "read", _docs),
    Route("POST", "/invocations", "predict", invocations.invocations, (JSON, CSV)),
    Route("POST", "/models/{name}/invocations", "predict", invocations.invocations, (JSON, CSV)),
    Route("GET", "/ping", OPEN, answers.ready),
    Route("GET", "/v2", "read", protocol.server),
    Route("GET", "/v2/health/live", OPEN, protocol.live),
    Route("GET", "/v2/health/ready", OPEN, protocol.ready),
    Route("GET", "/v2/models/{name}", "read", protocol.model),
    Route("GET", "/v2/models/{name}/ready", "read", protocol.model_ready),
    Route("POST", "/v2/models/{name}/infer", "predict", protocol.infer, (JSON, OCTETS)),
    Route("GET", "/v2/models/{name}/versions/{version}", "read", protocol.model),
    Route("GET", "/v2/models/{name}/versions/{version}/ready", "read", protocol.model_ready),
    Route("POST", "/v2/models/{name}/versions/{version}/infer", "predict", protocol.infer, (JSON, OCTETS)),
)


class Router:
    """Finds the route of a request. Raises DeclarationError when two routes are the same."""

    def __init__(self, routes: Iterable[Route] = ROUTES) -> None:
        self.routes = tuple(routes)
        named = [(route.method, route.pattern.pattern) for route in self.routes]
        if len(set(named)) < len(named):
            raise DeclarationError("two routes have the same method and path", cure="keep one of them")
        self._plain = {(route.method, route.path): route for route in self.routes if "{" not in route.path}
        self._patterns = tuple(route for route in self.routes if "{" in route.path)

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and the parts of its path in braces; HEAD is answered as GET. Raises Refused."""
        method = "GET" if method == "HEAD" else method
        if (route := self._plain.get((method, path))) is not None:
            return route, {}
        for route in self._patterns:
            if route.method == method and (match := route.pattern.fullmatch(path)):
                return route, match.groupdict()
        allowed = sorted({route.method for route in self.routes if route.pattern.fullmatch(path)})
        if not allowed:
            raise Refused("not_found", f"no route {excerpt(path)}")
        refused = Refused("method_not_allowed", f"{path[:80]} does not take {excerpt(method)}")
        refused.headers = [(b"allow", ", ".join(allowed).encode())]
        raise refused
