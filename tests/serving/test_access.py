"""Who may call what: the matrix of every route with every kind of key, made from the table of routes; and the host names answered for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.serving.house import House, ready_house
from tests.serving.inside import ask, plane_of

from ecluse.core.access import SCOPES, KeyGrant, hash_key
from ecluse.core.errors import DeclarationError
from ecluse.serving import answers, http
from ecluse.serving.access import Hosts
from ecluse.serving.http import Application
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused
from ecluse.serving.routes import OPEN, ROUTES, Route, Router

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
OPEN_TO_ALL = {"/health", "/ready", "/ping", "/v2/health/live", "/v2/health/ready"}
"""What an orchestrator must be able to ask without a key. Nothing else is ever added here without a reason."""

GRANTS = (
    *(KeyGrant(f"only-{scope}", hash_key(f"only-{scope}"), (scope,)) for scope in SCOPES),
    KeyGrant("all", hash_key("all"), tuple(SCOPES), NOW + HOUR),
    KeyGrant("nothing", hash_key("nothing"), ()),
    KeyGrant("expired", hash_key("expired"), tuple(SCOPES), NOW - HOUR),
    KeyGrant("revoked", hash_key("revoked"), tuple(SCOPES), NOW - HOUR, revoked=True),
)
SHOWN = ("", "wrong", *(grant.name for grant in GRANTS))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    house = ready_house(tmp_path_factory.mktemp("access"))
    house.keys = GRANTS
    house.publish(1)
    return house


@pytest.fixture
def plane(house: House) -> Iterator[Plane]:
    with plane_of(house, profile="prod") as plane:
        yield plane


def expected(permission: str, shown: str) -> str:
    """What the gate must say: "in", or the code of its refusal."""
    if permission == OPEN:
        return "in"
    if shown in ("", "wrong", "expired", "revoked"):
        return "unauthorized"
    return "in" if shown in ("all", f"only-{permission}") else "forbidden"


async def found(application: Application, route: Route, shown: str) -> str:
    path = re.sub(r"\{(name|model)\}", "churn", route.path)
    path = re.sub(r"\{\w+\}", "1", path)
    answer = await ask(application, route.method, path, {} if route.method == "POST" else None, key=shown)
    return answer.code if answer.code in ("unauthorized", "forbidden") else "in"


async def violations(application: Application) -> list[tuple[str, str, str]]:
    """Every (route, key) that is not answered as declared."""
    return [
        (f"{route.method} {route.path}", shown, got)
        for route in application.router.routes
        for shown in SHOWN
        if (got := await found(application, route, shown)) != expected(route.permission, shown)
    ]


def test_every_route_answers_every_key_as_declared(plane: Plane) -> None:
    assert asyncio.run(violations(Application(plane))) == []


@pytest.mark.parametrize("defect", ["no scopes", "no end", "any key", "no gate"])
def test_the_matrix_sees_a_defect(plane: Plane, monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    if defect == "no scopes":
        monkeypatch.setattr(http, "demand", lambda grant, scope: None)
    elif defect == "no end":
        monkeypatch.setattr(KeyGrant, "lives", lambda self, now: True)
    elif defect == "any key":
        monkeypatch.setattr(http, "identify", lambda headers, grants, now: GRANTS[0])
    else:
        monkeypatch.setattr(Plane, "needs_key", False)
    assert asyncio.run(violations(Application(plane)))


def test_a_route_without_a_permission_cannot_be_made() -> None:
    for permission in ("", "everybody", "admin"):
        with pytest.raises(DeclarationError, match="declares no permission"):
            Route("GET", "/secrets", permission, answers.health)
    with pytest.raises(DeclarationError, match="same method and path"):
        Router((ROUTES[0], ROUTES[0]))


def test_only_probes_are_open() -> None:
    assert {route.path for route in ROUTES if route.permission == OPEN} <= OPEN_TO_ALL
    assert all(route.method == "GET" for route in ROUTES if route.permission == OPEN)


def test_a_wrong_host_is_answered_by_no_route(plane: Plane) -> None:
    async def refused(route: Route) -> str:
        return (await ask(Application(plane), route.method, route.path, key="all", host="evil.example")).code

    assert {asyncio.run(refused(route)) for route in ROUTES} == {"host_not_allowed"}


@pytest.mark.parametrize(
    ("bound", "declared", "host", "answered"),
    [
        ("127.0.0.1", (), "localhost:1", True),
        ("127.0.0.1", (), "[::1]:8400", True),
        ("::1", (), "127.0.0.1", True),
        ("127.0.0.1", (), "10.0.0.7", False),
        ("127.0.0.1", (), "localhost.evil.example", False),
        ("127.0.0.1", ("models.example",), "Models.Example:80", True),
        ("127.0.0.1", ("models.example",), "a.models.example", False),
        ("127.0.0.1", (".models.example",), "a.models.example", True),
        ("127.0.0.1", (".models.example",), "evilmodels.example", False),
        ("10.0.0.7", (), "10.0.0.7:8400", True),
        ("10.0.0.7", (), "localhost", False),
        ("0.0.0.0", (), "10.0.0.7", True),
        ("0.0.0.0", (), "localhost", True),
        ("0.0.0.0", (), "evil.example", False),
        ("0.0.0.0", (), "10.0.0.7.evil.example", False),
        ("::", (), "[fd00::7]:8400", True),
        ("0.0.0.0", (), "", True),
        ("127.0.0.1", (".models.example",), "evil.example, a.models.example", False),
        ("127.0.0.1", (), "localhost, localhost", False),
    ],
)
def test_hosts(bound: str, declared: tuple[str, ...], host: str, answered: bool) -> None:
    hosts, headers = Hosts(bound, declared), {b"host": host.encode()}
    if answered:
        hosts.check(headers)
    else:
        with pytest.raises(Refused, match=r"(?i)host"):
            hosts.check(headers)


def test_in_dev_no_key_is_asked_for_until_the_first_is_granted(tmp_path: Path) -> None:
    house = ready_house(tmp_path)
    with plane_of(house) as plane:
        assert asyncio.run(violations(Application(plane)))[0][2] == "in"
    house.keys = (replace(GRANTS[-1]),)
    house.publish(1)
    with plane_of(house) as plane:
        answer = asyncio.run(ask(Application(plane), "GET", "/models", key="revoked"))
        assert answer.code == "unauthorized", "the last key was revoked: the server does not fall open"
        assert b"revoked" in answer.body
