"""The OpenAPI document says every route, and the truth: whatever is sent, what comes back is what is declared, and never a 5xx."""

from __future__ import annotations

import copy
import http.client
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.house import House, Worker, ready_house, running
from tests.serving.json_schema import faults, resolve
from tests.serving.test_predict import loaded

from ecluse.serving.docs_page import make_page
from ecluse.serving.openapi import make_document
from ecluse.serving.problems import KINDS
from ecluse.serving.routes import ROUTES
from ecluse.serving.shapes import answer_shape, request_shape

KEYED: dict[str, Any] = {"user_id": "u1", "gift": True}
EXPLICIT: dict[str, Any] = {
    "features": {"hours": 3.5, "plan": "Gold", "fee": None, "since": "2024-01-01"},
    "gift": False,
}
TENSORS: list[Any] = [
    {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u1"]},
    {"name": "gift", "shape": [1], "datatype": "BOOL", "data": [True]},
]
FLAT = EXPLICIT["features"] | {"gift": True}
GOOD: dict[str, list[Any]] = {
    "/predict": [KEYED, EXPLICIT | {"as_of": "2024-01-31"}],
    "/predict/batch": [{"instances": [KEYED, EXPLICIT], "request_id": "b"}],
    "/outcomes": [{"request_id": "r", "value": True}, [{"user_id": "u1", "at": "2024-01-31", "value": False}]],
    "/invocations": [
        {"dataframe_split": {"columns": ["user_id", "gift"], "data": [["u1", True]]}},
        {"dataframe_records": [FLAT]},
        {"inputs": {name: [value] for name, value in FLAT.items()}},
    ],
    "/v2/models/churn/infer": [
        {"inputs": TENSORS},
        {"id": "i", "inputs": TENSORS, "outputs": [{"name": "proba"}], "parameters": {"as_of": "2024-01-31"}},
    ],
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house, max_batch=16, deadline_ms=10_000) as worker:
        yield worker
        while CONNECTIONS:
            CONNECTIONS.popitem()[1].close()


@pytest.fixture(scope="module")
def document(worker: Worker) -> Any:
    status, headers, found = worker.call("GET", "/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    return found


def every(value: Any, name: str) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key == name)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from every(each, name)


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_in_it(document: Any) -> None:
    declared = {(method, path): operation["x-permission"] for method, path, operation in operations(document)}
    assert declared == {(route.method, route.path): route.permission for route in ROUTES}


def test_its_structure(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    assert {"title", "version"} <= set(document["info"])
    identities = [operation["operationId"] for *_, operation in operations(document)]
    assert len(set(identities)) == len(identities)
    for method, path, operation in operations(document):
        assert set(re.findall(r"\{(\w+)\}", path)) == {
            each["name"] for each in operation["parameters"] if each["in"] == "path"
        }
        assert any(status.startswith("2") for status in operation["responses"])
        assert {"4XX", "5XX"} <= set(operation["responses"])
        assert operation["summary"]
        assert ("requestBody" in operation) == (method == "POST" and "/load/" not in path), path
        assert bool(operation["security"]) == (operation["x-permission"] != "open")
    for reference in every(document, "$ref"):
        assert resolve(reference, document)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in document["components"]["schemas"])


def test_it_lists_every_problem(document: Any) -> None:
    assert [each["code"] for each in document["x-problems"]] == list(KINDS)
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(KINDS)


def test_the_manual_names_every_problem_and_every_route(root: Path) -> None:
    manual = "".join((root / "docs" / name).read_text(encoding="utf-8") for name in ("serving.md", "protocols.md"))
    assert [code for code in KINDS if f"`{code}`" not in manual] == []
    paths = {route.path.replace("/v2/models/{name}/versions", "…/versions") for route in ROUTES}
    assert sorted(path for path in paths if path not in manual) == []


def test_contracts_are_told(document: Any) -> None:
    keyed, explicit = document["components"]["schemas"]["churn.Request"]["oneOf"]
    assert (keyed["required"], explicit["required"]) == (["user_id", "gift"], ["features", "gift"])
    assert explicit["properties"]["features"]["properties"]["hours"] == {"type": "number", "minimum": 0, "maximum": 744}
    assert explicit["properties"]["features"]["properties"]["plan"]["enum"] == ["Basic", "Gold", "New"]


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks(task: Any) -> None:
    version = loaded(
        task, ("a", "b") if task == "multiclass" else (), bias=(0.0, 0.5) if task == "multiclass" else (0.0,)
    )
    found = answer_shape(version)["properties"]
    assert ("value" in found, "probabilities" in found) == (task == "regression", task == "multiclass")
    assert request_shape(version.form)["required"] == ["plan", "x"]
    assert make_document(ROUTES, {}, 9)["components"]["schemas"]["Request"] == {"type": "object"}


def test_good_requests_are_what_is_declared(document: Any) -> None:
    for path, bodies in GOOD.items():
        for body in bodies:
            assert not faults(body, request_of(path, document), document), path


def request_of(path: str, document: Any) -> Any:
    declared = document["paths"].get(path) or document["paths"][path.replace("churn", "{name}")]
    return declared["post"]["requestBody"]["content"]["application/json"]["schema"]


# -- what is declared is real -----------------------------------------------------------------------------------------------

MOMENT = "2024-01-31"
SHARED = {"as_of": MOMENT, "request_id": "full"}
TENSOR = {"name": "gift", "shape": [1], "datatype": "BOOL", "data": [True], "parameters": {}}
WHOLE: dict[str, list[dict[str, Any]]] = {
    "churn.Request": [KEYED | SHARED | {"model_version": 1}, EXPLICIT | SHARED | {"model_version": 1}],
    "churn.Row": [KEYED | SHARED, EXPLICIT | SHARED],
    "churn.Flat": [KEYED | SHARED, FLAT | SHARED],
    "churn.Outcome": [
        {"model": "churn", "value": True, "request_id": "full", "known_at": MOMENT},
        {"model": "churn", "value": True, "user_id": "u1", "at": MOMENT, "known_at": MOMENT},
    ],
    "InferRequest": [
        {"id": "i", "parameters": {"as_of": MOMENT}, "inputs": [TENSORS[0], TENSOR], "outputs": [{"name": "proba"}]}
    ],
    "BatchRequest": [{"instances": [KEYED], "request_id": "b"}],
}
"""Requests that hold every field there is."""
SENT_TO: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "churn.Request": ("/models/churn/predict", lambda body: body),
    "churn.Row": ("/predict/batch", lambda body: {"instances": [body]}),
    "churn.Flat": ("/models/churn/invocations", lambda body: {"dataframe_records": [body]}),
    "churn.Outcome": ("/models/churn/outcomes", lambda body: body),
    "InferRequest": ("/v2/models/churn/versions/1/infer", lambda body: body),
    "BatchRequest": ("/models/churn/predict/batch", lambda body: body),
}


@pytest.mark.parametrize("shape", WHOLE)
def test_every_declared_field_is_taken_and_no_other(worker: Worker, document: Any, shape: str) -> None:
    declared = document["components"]["schemas"][shape]
    path, wrap = SENT_TO[shape]
    for each, body in zip(declared.get("oneOf", [declared]), WHOLE[shape], strict=True):
        assert set(each["properties"]) == set(body), "a body for each form, with every field of it"
        assert worker.call("POST", path, wrap(body))[0] in (200, 202)
        status, _, refused = worker.call("POST", path, wrap(body | {"colour": 1}))
        told = refused["results"][0] if status == 207 else refused
        assert (told["code"], told["status"]) == ("unknown_field", 422)
        for name in each["required"]:
            without = {key: value for key, value in body.items() if key != name}
            status, _, refused = worker.call("POST", path, wrap(without))
            assert status >= 400 or status == 207, f"{name} is declared as required"


def test_every_declared_member_of_an_answer_is_there(worker: Worker, document: Any) -> None:
    schemas = document["components"]["schemas"]
    answer = worker.call("POST", "/predict/batch", {"instances": [KEYED]})[2]
    assert set(answer) == set(schemas["BatchAnswer"]["properties"])
    assert set(answer["results"][0]) == set(schemas["churn.Prediction"]["properties"])
    refused = worker.call("POST", "/v2/models/churn/infer", {"inputs": [TENSORS[0]]})[2]
    assert set(refused) == set(schemas["Problem"]["properties"])
    model = worker.call("GET", "/v2/models/churn")[2]
    assert set(schemas["ModelMetadata"]["properties"]) <= set(model)


def test_every_declared_route_answers_as_declared(worker: Worker, document: Any) -> None:
    bodies = {path.replace("/v2/models/churn", "/v2/models/{name}"): body[0] for path, body in GOOD.items()}
    for method, path, operation in operations(document):
        body = next(
            (body for end, body in bodies.items() if path.replace("/versions/{version}", "").endswith(end)), None
        )
        real = path.replace("{name}", "churn").replace("{version}", "1")
        status, headers, _ = worker.call(method, real, body if "requestBody" in operation else None)
        declared = operation["responses"].get(str(status))
        assert declared, f"{method} {real}: {status}"
        assert headers["content-type"].split(";")[0] in declared["content"]


# -- whatever is sent -----------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
    | st.sampled_from(["u1", "churn", "2024-01-31", "9999-12-31T23:59:59Z", 1e308, -1, 2**63, 10**400, "\ud800", "x" * 300])
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4),
    max_leaves=8,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A route, and a good body of it with up to three places changed, or no such body at all."""
    path = draw(st.sampled_from(sorted(GOOD)))
    kind = draw(st.sampled_from(["changed", "changed", "changed", "json", "bytes"]))
    if kind == "bytes":
        return path, draw(st.binary(max_size=60))
    if kind == "json":
        return path, json.dumps(draw(JSON)).encode()
    body = [copy.deepcopy(draw(st.sampled_from(GOOD[path])))]
    for _ in range(draw(st.integers(0, 3))):
        places = list(containers(body))
        parent, key = places[draw(st.integers(0, len(places) - 1))]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            parent[key] = draw(JSON)
        elif action == "remove" and parent is not body:
            del parent[key]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(["features", "gift", "as_of", "request_id", "parameters", "é"]))] = draw(JSON)
    return path, json.dumps(body[0]).encode()


def containers(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from containers(value[key])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_whatever_is_sent_gets_what_is_declared(worker: Worker, document: Any, request: tuple[str, bytes]) -> None:
    path, body = request
    status, headers, text = post(worker, path, body)
    assert status < 500, text
    declared = document["paths"].get(path) or document["paths"][path.replace("churn", "{name}")]
    if status >= 400:
        assert headers["content-type"] == "application/problem+json"
        schema = {"$ref": "#/components/schemas/Problem"}
    elif headers["content-type"] == "application/json":
        schema = declared["post"]["responses"][str(status)]["content"]["application/json"]["schema"]
    else:
        assert headers["content-type"] == "application/octet-stream"
        return
    answer = json.loads(text)
    assert not faults(answer, schema, document), answer
    if status >= 400:
        assert (answer["status"], KINDS[answer["code"]].status) == (status, status)


CONNECTIONS: dict[str, http.client.HTTPConnection] = {}


def post(worker: Worker, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """On one connection for all, as a client would: what one request leaves behind the next would stumble over."""
    address = urlsplit(worker.url).netloc
    connection = CONNECTIONS.setdefault(address, http.client.HTTPConnection(address, timeout=10))
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    with connection.getresponse() as response:
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


# -- the page -------------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.names |= {value or "" for name, value in attrs if name == "id"}


def test_the_page_needs_nothing_from_elsewhere(worker: Worker, document: Any) -> None:
    status, headers, page = worker.call("GET", "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    found = Elements()
    found.feed(page)
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert all(link == "/openapi.json" or link.removeprefix("#") in found.names for link in found.links)
    assert all(path in page for path in document["paths"])
    assert all(code in page for code in KINDS)
    assert f"curl {worker.url}/predict" in page


def test_its_examples_are_requests(worker: Worker, document: Any) -> None:
    keyed, explicit = document["components"]["schemas"]["churn.Request"]["examples"]
    assert not faults(keyed, {"$ref": "#/components/schemas/Request"}, document)
    assert worker.call("POST", "/predict", keyed)[2]["code"] == "unknown_entity"
    assert worker.call("POST", "/predict", explicit)[0] == 200


def test_the_page_of_a_worker_that_serves_nothing() -> None:
    page = make_page(make_document(ROUTES, {}, 9), "http://<host>", needs_key=True)
    assert "No version serves yet" in page
    assert "An API key is asked for" in page
    assert "<host>" not in page
