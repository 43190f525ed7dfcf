"""The control API over a real state: who may ask what, decisions in the name of keys, and how a refusal is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import jsonschema_rs
import pytest
from fastapi import FastAPI
from tests.loop.worlds import MODEL, candidate
from tests.web.house import Answer, House, call

from ecluse.app import App
from ecluse.core.access import SCOPES
from ecluse.core.event import Event
from ecluse.core.loop_settings import Approval, Control, Policy
from ecluse.core.settings import Settings
from ecluse.loop.asking import SECRET
from ecluse.loop.keys import revoke_key
from ecluse.web.control import declared_routes, make_routes, permission_of
from ecluse.web.doorkeeper import Doorkeeper

SETTINGS = Settings(
    project="water",
    policy=Policy(promotion="approval"),
    approval=Approval(checklist=("segments",), people={"ana": ("ana-key",)}),
)
ONE = f"/v1/models/{MODEL}/versions/1"
WHY = {"why": "read the report"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Version 1, made by ana, is in Staging."""
    house = House(tmp_path, SETTINGS)
    candidate(house.world, "a")
    yield house
    house.world.state.close()  # type: ignore[attr-defined]


def newest(house: House) -> Event:
    return list(house.world.state.ledger())[-1].event


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    return list(declared_routes(make_routes(App(tmp_path_factory.mktemp("routes"), SETTINGS))))


def test_every_route_declares_a_permission(routes: list[tuple[str, str, str]]) -> None:
    assert len(routes) >= 20
    assert {permission for _, _, permission in routes} <= {*SCOPES, "open", "signed"}
    assert {path for _, path, permission in routes if permission == "open"} == {"/health", "/openapi.json", "/docs"}
    assert {path for method, path, permission in routes if method == "POST" and permission == "read"} == set()


def test_no_route_answers_without_its_scope(house: House, routes: list[tuple[str, str, str]]) -> None:
    """The whole matrix: every route with every key. A body that cannot be used shows that a caller came in (422), and changes nothing."""
    before = len(list(house.world.state.ledger()))
    for method, path, permission in routes:
        if permission not in SCOPES:
            continue
        where = path.replace("{model}", MODEL).replace("{number}", "1")
        for key in ("", "ecl_nobody"):
            assert house.ask(method, where, key, {}).status == 401, where
        for scope in SCOPES:
            answer = house.ask(method, where, scope, {})
            if scope != permission:
                assert (answer.status, answer.facts["code"]) == (403, "forbidden"), (where, scope)
            else:
                assert answer.status not in (401, 403), (where, scope)
    assert len(list(house.world.state.ledger())) == before


def test_a_route_that_declares_nothing_answers_nobody(house: House) -> None:
    api = FastAPI()
    api.get("/forgotten")(lambda: {"secret": 1})
    assert permission_of(api, {"type": "http", "method": "GET", "path": "/forgotten", "root_path": ""}) == ""
    object.__setattr__(house.control, "permission", lambda scope: "")
    for key in SCOPES:
        answer = house.ask("GET", "/v1/models", key)
        assert (answer.status, answer.facts["code"]) == (403, "forbidden")
    assert house.ask("GET", "/v1/models").status == 401


def test_a_revoked_key_and_another_host_stay_outside(house: House) -> None:
    revoke_key(house.world, SETTINGS, "read", timedelta(0), reason="lost", actor="ana")
    answer = house.ask("GET", "/v1/models", "read")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "revoked" in answer.facts["detail"]
    assert house.ask("GET", "/health", headers={"host": "evil.example"}).status == 421
    assert house.ask("GET", "/health").facts == {"status": "ok"}


def test_approvals_and_releases_are_in_the_name_of_the_key(house: House) -> None:
    refused = house.ask("POST", f"{ONE}/promote", "operate", WHY)
    assert (refused.status, refused.facts["code"]) == (403, "not_allowed")
    assert "0 of 1 approvals" in refused.facts["detail"]
    assert (newest(house).kind, newest(house).actor) == ("release.refused", "operate")
    said = house.ask("POST", f"{ONE}/approve", "approve", {**WHY, "checks": ["segments"]})
    assert (said.status, said.facts["missing"], said.facts["unchecked"]) == (200, 0, [])
    assert (newest(house).kind, newest(house).actor) == ("version.approved", "approve")
    policy = house.ask("GET", f"{ONE}/policy", "read").facts
    assert policy["rule"]["name"] == "approval"
    assert [word["who"] for word in policy["candidates"][0]["standing"]["given"]] == ["approve"]
    assert house.ask("POST", f"{ONE}/promote", "operate", WHY).facts["champion"] == 1
    candidate(house.world, "b")
    assert house.ask("POST", f"/v1/models/{MODEL}/versions/2/reject", "operate", WHY).facts["stage"] == "Rejected"
    assert newest(house).actor == "operate"
    nothing = house.ask("POST", f"/v1/models/{MODEL}/rollback", "operate", WHY)
    assert (nothing.status, nothing.facts["code"]) == (403, "not_allowed")


def test_an_author_does_not_approve_with_a_key_of_theirs(house: House) -> None:
    answer = house.ask("POST", f"{ONE}/approve", house.key("ana-key", "approve"), WHY)
    assert (answer.status, answer.facts["code"]) == (403, "not_allowed")
    assert "an author does not approve" in answer.facts["detail"]
    assert (newest(house).kind, newest(house).actor) == ("release.refused", "ana-key")


def test_an_override_needs_both_scopes(house: House) -> None:
    told = {**WHY, "override": "kim, on call"}
    answer = house.ask("POST", f"{ONE}/promote", "operate", told)
    assert (answer.status, answer.facts["code"]) == (403, "forbidden")
    assert house.ask("POST", f"{ONE}/promote", house.key("kim", "operate", "approve"), told).facts["champion"] == 1
    assert (newest(house).kind, newest(house).actor) == ("policy.overridden", "kim")


def test_two_promoters_and_one_winner(house: House) -> None:
    house.ask("POST", f"{ONE}/approve", "approve", {**WHY, "checks": ["segments"]})
    assert house.ask("POST", f"{ONE}/promote", "operate", WHY).status == 200
    assert house.ask("POST", f"{ONE}/promote", "operate", WHY).status == 403
    left = house.ask("POST", f"/v1/models/{MODEL}/rollback", "operate", {**WHY, "leaving": 7})
    assert (left.status, left.facts["code"]) == (409, "conflict")


def test_the_loop_is_steered(house: House) -> None:
    assert house.ask("GET", "/v1/loop", "read").facts["paused"] is None
    assert house.ask("POST", "/v1/loop/pause", "operate", WHY).facts["by"] == "operate"
    assert house.ask("POST", "/v1/loop/pause", "operate", WHY).status == 403
    assert house.ask("GET", "/v1/loop", "read").facts["paused"]["why"] == WHY["why"]
    assert house.ask("POST", "/v1/loop/resume", "operate", WHY).status == 200
    asked = house.ask("POST", f"/v1/models/{MODEL}/trigger", "operate", WHY).facts
    assert (newest(house).kind, newest(house).actor) == ("trigger.raised", "operate")
    assert house.ask("GET", "/v1/loop", "read").facts["waiting"][-1]["sequence"] == asked["sequence"]


def test_an_outside_event_is_signed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"id": "7", "model": MODEL, "why": "the price list changed"}).encode()
    right = "sha256=" + hmac.new(b"s" * 32, body, hashlib.sha256).hexdigest()
    monkeypatch.delenv(SECRET, raising=False)
    assert house.ask("POST", "/v1/events", raw=body, headers={"X-Ecluse-Signature": right}).status == 403
    monkeypatch.setenv(SECRET, "s" * 32)
    before = len(list(house.world.state.ledger()))
    for wrong in ("", "sha256=00", right[:-1] + ("0" if right[-1] != "0" else "1")):
        assert house.ask("POST", "/v1/events", raw=body, headers={"X-Ecluse-Signature": wrong}).status == 403
    assert house.ask("POST", "/v1/events", raw=body + b" ", headers={"X-Ecluse-Signature": right}).status == 403
    assert len(list(house.world.state.ledger())) == before
    assert house.ask("POST", "/v1/events", raw=body, headers={"X-Ecluse-Signature": right}).status == 202
    assert (newest(house).kind, newest(house).actor) == ("trigger.raised", "outside")


def test_what_is_read(house: House) -> None:
    [only] = house.ask("GET", f"/v1/models/{MODEL}/versions", "read").facts["versions"]
    assert (only["number"], only["stage"]) == (1, "Staging")
    assert house.ask("GET", "/v1/models", "read").facts["models"][0]["champion"] is None
    one = house.ask("GET", ONE, "read").facts
    assert one["report"] == house.ask("GET", f"{ONE}/report", "read").facts
    assert one["run"]["id"] == "a"
    every = house.ask("GET", "/v1/history?limit=500", "read").facts
    assert every["next"] is None
    pages: list[object] = []
    after = 0
    while after is not None:
        page = house.ask("GET", f"/v1/history?limit=2&after={after}", "read").facts
        pages, after = [*pages, *page["rows"]], page["next"]
    assert pages == every["rows"]
    kinds = {row["event"]["kind"] for row in house.ask("GET", "/v1/history?kind=key.", "read").facts["rows"]}
    assert kinds == {"key.added"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/nothing", 404),
        ("/v1/models/other/versions", 404),
        (f"/v1/models/{MODEL}/versions/9", 404),
        (f"/v1/models/{MODEL}/versions/0", 422),
        (f"/v1/models/{MODEL}/versions/99999999999999999999999", 422),
        (f"/v1/models/{MODEL}/versions/../../x", 404),
        ("/v1/history?limit=0", 422),
        ("/v1/history?after=-1", 422),
    ],
)
def test_what_is_not_there_is_a_problem(house: House, path: str, status: int) -> None:
    answer = house.ask("GET", path, "read")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert {"type", "title", "status", "detail", "code"} <= answer.facts.keys()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 422),
        (b'{"why": ""}', 422),
        (b'{"why": "  "}', 422),
        (b'{"why": 7}', 422),
        (b'{"why": "x", "more": 1}', 422),
        (b'{"why": "\\ud800"}', 422),
        (b'{"why": "two\\nlines"}', 422),
        (b'{"why": "\\u001b[2J"}', 422),
        (b'{"why": "x", "checks": ["\\u009b2J"]}', 422),
        (b'{"why": "' + b"x" * 2_000 + b'"}', 422),
        (b"[" * 20_000, 400),
        (b"\xff", 400),
        (b'{"why": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_a_body_that_cannot_be_used_changes_nothing(house: House, raw: bytes, status: int) -> None:
    before = len(list(house.world.state.ledger()))
    answer = house.ask("POST", f"{ONE}/approve", "approve", raw=raw)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert len(list(house.world.state.ledger())) == before


def test_a_page_of_another_site_cannot_send(house: House) -> None:
    """What a browser sends without asking first is no JSON, and nothing here reads anything else."""
    answer = house.ask("POST", f"{ONE}/approve", "approve", WHY, headers={"content-type": "text/plain"})
    assert answer.status == 422
    assert "access-control-allow-origin" not in house.ask("GET", "/health").headers


def test_no_more_requests_than_declared_are_answered_at_once(tmp_path: Path) -> None:
    house = House(tmp_path, replace(SETTINGS, control=Control(max_in_flight=1)))
    assert isinstance(house.control, Doorkeeper)
    for known, path, key in ((True, "/v1/status", "read"), (False, "/health", "")):
        house.control.free = {True: 1, False: 1} | {known: 0}
        answer = house.ask("GET", path, key)
        assert (answer.status, answer.facts["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    house.control.free = {True: 0, False: 0}
    assert house.ask("GET", "/v1/status").status == 401  # who has no key takes no place


def test_callers_without_a_key_keep_nobody_with_one_out(tmp_path: Path) -> None:
    """Bodies that never come hold the few places of strangers, for two seconds, and none of those of keys."""
    house = House(tmp_path, replace(SETTINGS, control=Control(max_in_flight=8)))
    plain = {"host": "127.0.0.1:8401", "content-type": "application/json"}
    keyed = {**plain, "authorization": f"Bearer {house.keys['operate']}"}

    async def half_sent() -> Answer:
        return await call(house.control, "POST", "/v1/events", b"{", {**plain, "content-length": "100"}, whole=False)

    async def emergency() -> tuple[list[Answer], Answer]:
        strangers = [asyncio.create_task(half_sent()) for _ in range(20)]
        await asyncio.sleep(0.1)
        stopped = await call(house.control, "POST", "/v1/loop/pause", json.dumps(WHY).encode(), keyed)
        return await asyncio.gather(*strangers), stopped

    began = time.monotonic()
    told, stopped = asyncio.run(emergency())
    assert stopped.status == 200
    assert sorted(each.status for each in told) == [408] * 2 + [503] * 18
    assert {each.headers["connection"] for each in told} == {"close"}
    assert time.monotonic() - began < 8
    assert house.ask("GET", "/health").status == 200  # their places are free again


def test_the_documents_name_every_route(house: House, routes: list[tuple[str, str, str]]) -> None:
    document = house.ask("GET", "/openapi.json").facts
    told = {
        (method.upper(), path, operation["x-permission"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert told == {(method, path, permission) for method, path, permission in routes if method != "HEAD"}
    assert all(
        operation.get("security") == ([{"key": []}] if operation["x-permission"] in SCOPES else [])
        for methods in document["paths"].values()
        for operation in methods.values()
    )
    for shape in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(shape)
    page = house.ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert all(path.encode() in page.body for _, path, _ in routes)


def test_answers_are_kept_out_of_caches(house: House) -> None:
    for path in ("/health", "/v1/models", "/nothing"):
        headers = house.ask("GET", path, "read").headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
