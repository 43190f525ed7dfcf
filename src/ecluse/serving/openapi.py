"""The OpenAPI 3.1 document of a worker: out of the route table, the schemas of the versions that serve, and the codes of its problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from ecluse.serving import answers, batch, invocations
from ecluse.serving import inference_protocol as protocol
from ecluse.serving.call import Call, Handler, Reply
from ecluse.serving.docs_page import make_page
from ecluse.serving.health import own_version
from ecluse.serving.plane import Plane
from ecluse.serving.problems import KINDS
from ecluse.serving.scorers import Loaded
from ecluse.serving.shapes import (
    REQUEST_ID_SHAPE,
    Shape,
    answer_shape,
    fixed_shapes,
    flat_shape,
    outcome_shape,
    ref,
    request_shape,
    row_shape,
)

HTML = b"text/html; charset=utf-8"
_LOCKED = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
]
_JSON, _CSV, _OCTETS, _PROBLEM = "application/json", "text/csv", "application/octet-stream", "application/problem+json"
_HEADERS: tuple[tuple[str, Shape, str], ...] = (
    ("X-Request-Id", REQUEST_ID_SHAPE, "the caller's own name for the request; the answer has it, or one made up"),
    (
        "X-Request-Timeout-Ms",
        {"type": "integer", "minimum": 0, "maximum": 999_999_999},
        "milliseconds the caller waits, where less than the server's own deadline: no work is begun after them",
    ),
)


def _header(shape: Shape, *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "schema": shape}


_ANSWERED = {"X-Request-Id": _header(REQUEST_ID_SHAPE)}
_NAMED = {"X-Ecluse-Model": _header({"type": "string"}), "X-Ecluse-Version": _header({"type": "integer"})}
_encode = msgspec.json.Encoder().encode


class Described(Protocol):
    """What is read of a route."""

    @property
    def method(self) -> str:
        """GET or POST."""
        ...

    @property
    def path(self) -> str:
        """With parts in braces."""
        ...

    @property
    def permission(self) -> str:
        """What a caller must be allowed."""
        ...

    @property
    def handler(self) -> Handler:
        """Who answers; its docstring is the summary."""
        ...


@dataclass(frozen=True)
class Exchange:
    """Names of the shapes a handler takes and gives, by status, and media types it takes or gives besides JSON.

    A name "" of what it gives: no JSON. ``named``: the answer's headers name model and version.
    """

    takes: str = ""
    gives: Mapping[int, str] = field(default_factory=dict)
    also_takes: tuple[str, ...] = ()
    also_gives: tuple[str, ...] = ()
    named: bool = False


EXCHANGES: Mapping[Handler, Exchange] = {
    answers.predict: Exchange("Request", {200: "Prediction"}, named=True),
    answers.metrics: Exchange("", {200: ""}, also_gives=("text/plain",)),
    answers.load: Exchange("", {202: "Facts"}),
    answers.outcomes: Exchange("Outcomes", {202: "Accepted"}),
    batch.predict_batch: Exchange("BatchRequest", {200: "BatchAnswer", 207: "BatchAnswer"}, named=True),
    invocations.invocations: Exchange("Frame", {200: "Predictions"}, (_CSV,), named=True),
    protocol.infer: Exchange("InferRequest", {200: "InferAnswer"}, (_OCTETS,), (_OCTETS,), named=True),
    protocol.model: Exchange("", {200: "ModelMetadata"}, named=True),
    protocol.server: Exchange("", {200: "ServerMetadata"}),
}
_PLAIN, _PAGE = Exchange("", {200: "Facts"}), Exchange("", {200: ""}, also_gives=("text/html",))
_GROUPS = (  # the first whose words stand in the path
    ("Open Inference Protocol", ("/v2",)),
    ("MLflow's protocol", ("/invocations", "/ping")),
    ("Predictions", ("/predict",)),
    ("Outcomes", ("/outcomes",)),
    ("Documentation", ("/docs", "/openapi.json")),
    ("Server and models", ("/",)),
)


def make_handlers(routes: Callable[[], Iterable[Described]]) -> tuple[Handler, Handler]:
    """The handlers of the document and of its page. ``routes`` is asked when they are, for they are routes themselves."""

    async def openapi(plane: Plane, call: Call) -> Reply:
        """GET /openapi.json: this document."""
        return Reply(200, _encode(make_document(routes(), plane.fleet.champions, plane.serving.max_batch)))

    async def docs(plane: Plane, call: Call) -> Reply:
        """GET /docs: this document as a page, without anything from elsewhere."""
        document = make_document(routes(), plane.fleet.champions, plane.serving.max_batch)
        address = call.headers.get(b"host", b"127.0.0.1").decode("latin-1")
        page = make_page(document, f"http://{address}", needs_key=plane.needs_key)
        return Reply(200, page.encode(), HTML, list(_LOCKED))

    return openapi, docs


def make_document(routes: Iterable[Described], champions: Mapping[str, Loaded], max_batch: int) -> dict[str, Any]:
    """The OpenAPI document of these routes and of the versions that serve, by model; a request has ``max_batch`` rows at most.

    O(routes + columns).
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, sorted(champions))
    served = ", ".join(f"{name} version {loaded.number}" for name, loaded in sorted(champions.items()))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Écluse",
            "version": own_version(),
            "description": f"Serving {served or 'nothing'}. Every refusal is a problem with a stable code.",
        },
        "paths": paths,
        "components": {
            "schemas": {**_model_shapes(champions), **fixed_shapes(max_batch)},
            "responses": {
                "Problem": {
                    "description": "A refusal",
                    "headers": _ANSWERED | {"Retry-After": _header({"type": "integer"}, required=False)},
                    "content": {_PROBLEM: {"schema": ref("Problem")}},
                }
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "x-problems": [
            {"code": code, "status": kind.status, "title": kind.title, "cure": kind.cure}
            for code, kind in KINDS.items()
        ],
    }


def _model_shapes(champions: Mapping[str, Loaded]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for name, loaded in sorted(champions.items()):
        form = loaded.form
        shapes[f"{name}.Request"], shapes[f"{name}.Prediction"] = request_shape(form), answer_shape(loaded)
        shapes[f"{name}.Row"], shapes[f"{name}.Flat"] = row_shape(form), flat_shape(form)
        shapes[f"{name}.Outcome"] = outcome_shape(loaded)
    for kind in ("Request", "Prediction", "Row", "Flat", "Outcome"):
        each = [ref(f"{name}.{kind}") for name in sorted(champions)]
        shapes[kind] = {"anyOf": each} if each else {"type": "object"}
    return shapes


def _operation(route: Described, models: list[str]) -> dict[str, Any]:
    exchange = _PAGE if route.path == "/docs" else EXCHANGES.get(route.handler, _PLAIN)
    summary = " ".join((route.handler.__doc__ or "").partition(": ")[2].split()) or route.path
    operation: dict[str, Any] = {
        "operationId": _identity(route),
        "tags": [next(name for name, words in _GROUPS if any(word in route.path for word in words))],
        "summary": summary[0].upper() + summary[1:],
        "security": [] if route.permission == "open" else [{"key": []}],
        "x-permission": route.permission,
        "parameters": _parameters(route.path, models),
        "responses": _responses(exchange),
    }
    if exchange.takes:
        content: dict[str, Any] = {_JSON: {"schema": ref(exchange.takes)}}
        content |= {kind: {"schema": {"type": "string"}} for kind in exchange.also_takes}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(exchange: Exchange) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, name in exchange.gives.items():
        content: dict[str, Any] = {_JSON: {"schema": ref(name)}} if name else {}
        content |= {kind: {"schema": {"type": "string"}} for kind in exchange.also_gives}
        found[str(status)] = {
            "description": "Answered" if status != 207 else "Some rows were refused",
            "headers": _ANSWERED | (_NAMED if exchange.named else {}),
            "content": content,
        }
    return found | {status: {"$ref": "#/components/responses/Problem"} for status in ("4XX", "5XX")}


def _parameters(path: str, models: list[str]) -> list[dict[str, Any]]:
    kinds: dict[str, Shape] = {
        "name": {"type": "string", "enum": models} if models else {"type": "string"},
        "version": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    }
    named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": kinds[name]} for name in named
    ]
    return found + [
        {"name": name, "in": "header", "required": False, "schema": shape, "description": what}
        for name, shape, what in _HEADERS
    ]


def _identity(route: Described) -> str:
    words = [part.strip("{}").replace(".", "_") for part in route.path.split("/") if part]
    return "_".join([route.method.lower(), *words])
