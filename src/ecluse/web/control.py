"""The control API: what the command line decides, over HTTP, in the name of an API key. The only importer of FastAPI.

Every route declares the scope a key must have; one that declares none answers nobody. Answers are JSON, refusals are problems (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response

from ecluse.app import App
from ecluse.core.access import SCOPES
from ecluse.core.codec import to_plain
from ecluse.core.errors import EcluseError
from ecluse.loop.approve import approve, disapprove, explain
from ecluse.loop.asking import ask, outside
from ecluse.loop.pause import pause, paused, resume
from ecluse.loop.promote import promote
from ecluse.loop.publish import grants, known_models
from ecluse.loop.reject import reject
from ecluse.loop.rollback import rollback
from ecluse.loop.triggers import Due
from ecluse.serving.access import Hosts, demand
from ecluse.web import bodies, views
from ecluse.web.doorkeeper import BODY, GRANT, OPEN, SIGNED, Asgi, Doorkeeper, Scope
from ecluse.web.page import make_page
from ecluse.web.problems import Problem, problem_named, problem_of

PERMISSION = "x-permission"
DOCS = "/docs"
SIGNATURE = "X-Ecluse-Signature"
ABOUT = (
    "Who released what, when and why, and what to do next: policies, approvals, releases and the loop of one project."
)
Model = Annotated[str, Path(min_length=1, max_length=100, description="a model's name")]
Number = Annotated[int, Path(ge=1, le=1_000_000_000, description="a version's number")]


def make_control(app: App, bound: str | None = None) -> Asgi:
    """The control API of a project, listening on ``bound`` (by its settings), as an ASGI application."""
    inner, settings = make_routes(app), app.settings.control
    hosts = Hosts(bound or settings.host, settings.hosts)
    world = app.world  # opened before the first request comes
    return Doorkeeper(
        inner,
        lambda scope: permission_of(inner, scope),
        lambda: grants(world),
        hosts,
        settings.max_body_bytes,
        settings.max_in_flight,
    )


def permission_of(api: FastAPI, scope: Scope) -> str | None:
    """What the route a request meets asks of its caller; "" when it declares nothing, None when there is no such route."""
    for route in api.routes:
        match, _ = route.matches(scope)
        if match.name == "FULL":
            return str((getattr(route, "openapi_extra", None) or {}).get(PERMISSION, ""))
    return None


def make_routes(app: App) -> FastAPI:
    """The routes, without what stands before them."""
    api = FastAPI(
        title=f"Écluse control API of {app.settings.project}",
        description=ABOUT,
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses={"4XX": {"description": "a problem (RFC 9457)", "content": {"application/problem+json": {}}}},
    )
    _add_problems(api)
    _add_documents(api)
    _add_readings(api, app)
    _add_decisions(api, app)
    _add_loop(api, app)
    return api


def _route(api: FastAPI, method: str, path: str, permission: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a handler, with what its caller must be allowed. The first line of its docstring is its summary."""
    assert permission in SCOPES or permission in (OPEN, SIGNED), "a route declares its permission"
    security: list[dict[str, list[str]]] = [{"key": []}] if permission in SCOPES else []
    extra = {PERMISSION: permission, "security": security}

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        gives: type[Response] = HTMLResponse if path == DOCS else JSONResponse
        api.add_api_route(
            path, handler, methods=[method], openapi_extra=extra, response_model=None, response_class=gives
        )
        return handler

    return register


def _add_problems(api: FastAPI) -> None:
    def told(problem: Problem) -> Response:
        headers = dict(problem.headers)
        return Response(problem.body, problem.status, headers, media_type="application/problem+json")

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, EcluseError)
        return told(problem_of(error))

    def unusable(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        code = "invalid_json" if first["type"] == "json_invalid" else "wrong_type"
        return told(problem_named(code, f"{field}: {first['msg']}", field))

    api.add_exception_handler(EcluseError, refused)
    api.add_exception_handler(RequestValidationError, unusable)

    def named(code: str, detail: str = "") -> Callable[[Request, Exception], Response]:
        def tell(_: Request, error: Exception) -> Response:
            headers = getattr(error, "headers", None) or {}  # 405 names the methods there are
            return told(replace(problem_named(code, detail), headers=tuple(headers.items())))

        return tell

    api.add_exception_handler(400, named("invalid_json"))
    api.add_exception_handler(404, named("not_found", "GET /docs names every route"))
    api.add_exception_handler(405, named("method_not_allowed"))
    api.add_exception_handler(Exception, named("internal_error"))


def _add_documents(api: FastAPI) -> None:
    @_route(api, "GET", "/health", OPEN)
    def health() -> Any:
        """Whether this server answers."""
        return {"status": "ok"}

    @_route(api, "GET", "/openapi.json", OPEN)
    def openapi() -> Any:
        """This API as an OpenAPI document."""
        return JSONResponse(_document(api))

    @_route(api, "GET", DOCS, OPEN)
    def docs() -> Any:
        """This API as a page."""
        return HTMLResponse(make_page(_document(api)))


def _document(api: FastAPI) -> dict[str, Any]:
    document = api.openapi()
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["key"] = {"type": "http", "scheme": "bearer", "description": "an API key: `ecluse keys add`"}
    return document


def _add_readings(api: FastAPI, app: App) -> None:
    @_route(api, "GET", "/v1/status", "read")
    def status() -> Any:
        """The project at a glance: clock, champions, candidates, data, whether a server answers."""
        return to_plain(app.status())

    @_route(api, "GET", "/v1/models", "read")
    def models() -> Any:
        """Every model with its champion and what it can be rolled back to."""
        return {"models": [to_plain(app.world.state.rollout(name)) for name in known_models(app.world)]}

    @_route(api, "GET", "/v1/models/{model}/versions", "read")
    def versions(model: Model) -> Any:
        """A model's versions."""
        return {"versions": to_plain(app.world.state.versions(views.known(app.world, model)))}

    @_route(api, "GET", "/v1/models/{model}/versions/{number}", "read")
    def version(model: Model, number: Number) -> Any:
        """A version with its run and its newest gate report."""
        return views.version(app.world, model, number)

    @_route(api, "GET", "/v1/models/{model}/versions/{number}/report", "read")
    def report(model: Model, number: Number) -> Any:
        """A version's newest gate report, with the digest that approvals are bound to."""
        return views.report(app.world, model, number)

    @_route(api, "GET", "/v1/models/{model}/policy", "read")
    def policy(model: Model) -> Any:
        """Which rule releases a model's versions, who may approve, and what is missing for each in Staging."""
        return to_plain(explain(app.world, app.settings, views.known(app.world, model)))

    @_route(api, "GET", "/v1/models/{model}/versions/{number}/policy", "read")
    def policy_of(model: Model, number: Number) -> Any:
        """The same for one version."""
        return to_plain(explain(app.world, app.settings, model, number))

    @_route(api, "GET", "/v1/history", "read")
    def history(
        after: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        model: Annotated[str | None, Query(max_length=100)] = None,
        kind: Annotated[str, Query(max_length=100)] = "",
    ) -> Any:
        """The ledger from a row on, oldest first; `kind` is the beginning of the kinds asked for."""
        return views.history(app.world, after, limit, model, kind)


def _add_decisions(api: FastAPI, app: App) -> None:
    world, settings = app.world, app.settings
    one = "/v1/models/{model}/versions/{number}"

    @_route(api, "POST", one + "/approve", "approve")
    def say_yes(request: Request, model: Model, number: Number, told: bodies.Approval) -> Any:
        """Say yes to a release as the present gate report judged it; enough of them let the loop release it."""
        return to_plain(
            approve(world, settings, model, number, reason=told.why, actor=actor(request), checks=told.checks)
        )

    @_route(api, "POST", one + "/disapprove", "approve")
    def say_no(request: Request, model: Model, number: Number, told: bodies.Reasoned) -> Any:
        """Say no to a release, or take a yes back."""
        return to_plain(disapprove(world, settings, model, number, reason=told.why, actor=actor(request)))

    @_route(api, "POST", one + "/reject", "operate")
    def refuse(request: Request, model: Model, number: Number, told: bodies.Reasoned) -> Any:
        """Refuse a version for good."""
        return to_plain(reject(world, settings, model, number, reason=told.why, actor=actor(request)))

    @_route(api, "POST", one + "/promote", "operate")
    def release(request: Request, model: Model, number: Number, told: bodies.Promotion) -> Any:
        """Release a version: gates and approvals are asked, unless somebody named takes it on."""
        if told.override:
            demand(request.scope[GRANT], "approve")
        return to_plain(
            promote(world, settings, model, number, reason=told.why, actor=actor(request), override=told.override)
        )

    @_route(api, "POST", "/v1/models/{model}/rollback", "operate")
    def back(request: Request, model: Model, told: bodies.Rollback) -> Any:
        """The version before serves again, or an earlier one."""
        name = views.known(world, model)
        return to_plain(
            rollback(world, settings, name, reason=told.why, actor=actor(request), to=told.to, leaving=told.leaving)
        )


def _add_loop(api: FastAPI, app: App) -> None:
    world = app.world

    @_route(api, "GET", "/v1/loop", "read")
    def loop() -> Any:
        """Whether the loop is paused, by whom and why, and which events wait for it."""
        return {"paused": to_plain(paused(world)), "waiting": to_plain(list(app.waiting()))}

    @_route(api, "POST", "/v1/loop/pause", "operate")
    def stop(request: Request, told: bodies.Reasoned) -> Any:
        """Stop the loop: it decides nothing until it is resumed."""
        return to_plain(pause(world, reason=told.why, actor=actor(request)))

    @_route(api, "POST", "/v1/loop/resume", "operate")
    def go_on(request: Request, told: bodies.Reasoned) -> Any:
        """Let a paused loop go on."""
        return to_plain(resume(world, reason=told.why, actor=actor(request)))

    @_route(api, "POST", "/v1/models/{model}/trigger", "operate")
    def trigger(request: Request, model: Model, told: bodies.Reasoned) -> Any:
        """Ask for a retraining; the loop decides."""
        return to_plain(ask(world, model, Due("manual", "", told.why), actor=actor(request)))

    @_route(api, "POST", "/v1/events", SIGNED)
    def event(request: Request) -> Any:
        """An event of another system: `{"id", "model", "why"}` with its signature in X-Ecluse-Signature."""
        row = outside(world, app.settings, request.scope[BODY], request.headers.get(SIGNATURE, ""))
        return JSONResponse({"event": row.sequence}, 202)


def actor(request: Request) -> str:
    """Who acts, for the ledger: the name of the key."""
    return str(request.scope[GRANT].name)


def declared_routes(api: FastAPI) -> Sequence[tuple[str, str, str]]:
    """(method, path, permission) of every route, for those who check them all."""
    return [
        (
            method,
            str(getattr(route, "path", "")),
            str((getattr(route, "openapi_extra", None) or {}).get(PERMISSION, "")),
        )
        for route in api.routes
        for method in sorted(getattr(route, "methods", ()))
    ]
