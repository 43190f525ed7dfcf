"""Bad input to a real server: each gets the right status, a stable code and a cure, never 200, and nothing is journaled for it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.serving.house import JANUARY, House, Worker, ready_house, running

GOOD = {"user_id": "u1", "gift": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house, deadline_ms=300, max_in_flight=4) as worker:
        yield worker


def problem(found: tuple[int, dict[str, str], Any]) -> Any:
    """The problem of an answer, after what must hold for each of them."""
    status, headers, body = found
    assert headers["content-type"] == "application/problem+json"
    assert body["status"] == status >= 400
    assert {"type", "title", "detail", "code", "cure", "request_id"} <= set(body)
    assert body["request_id"] == headers["x-request-id"]
    assert "Traceback" not in json.dumps(body)
    assert not re.search(r"/(home|tmp|work|root|var)/", json.dumps(body)), "no path of the server's"
    return body


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("POST", "/", 404, "not_found"),
        ("POST", "/models/churn", 404, "not_found"),
        ("POST", "/models/a/b/predict", 404, "not_found"),
        ("POST", "/models/..%2f..%2fetc/predict", 404, "not_found"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("GET", "/models/churn/predict", 405, "method_not_allowed"),
    ],
)
def test_routes_that_are_not_there(worker: Worker, method: str, path: str, status: int, code: str) -> None:
    found = worker.call(method, path, GOOD if method == "POST" else None)
    assert (found[0], problem(found)["code"]) == (status, code)
    assert (found[1].get("allow") is not None) == (status == 405)


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"gift": True}, 422, "missing_field", "user_id"),
        ({"user_id": "nobody", "gift": True}, 404, "unknown_entity", "user_id"),
        ({**GOOD, "colour": 1}, 422, "unknown_field", "colour"),
        ({**GOOD, "gift": "yes"}, 422, "wrong_type", "gift"),
        ({**GOOD, "as_of": "2024-02-29"}, 422, "as_of_mismatch", "as_of"),
        ({**GOOD, "request_id": "no spaces"}, 422, "invalid_request_id", "request_id"),
        ({**GOOD, "features": {}}, 422, "ambiguous_request", "features"),
        ([GOOD], 422, "wrong_type", None),
        ("u1", 422, "wrong_type", None),
    ],
)
def test_requests_that_cannot_be_answered(worker: Worker, body: Any, status: int, code: str, field: str | None) -> None:
    found = worker.call("POST", "/predict", body)
    answer = problem(found)
    assert (found[0], answer["code"], answer.get("field")) == (status, code, field)


def test_as_of_names_the_moment_held(worker: Worker) -> None:
    answer = problem(worker.call("POST", "/predict", {**GOOD, "as_of": "2024-02-29"}))
    assert "2024-01-31T00:00:00Z" in answer["detail"]
    assert "2024-01-31T00:00:00Z" in answer["cure"]
    assert worker.predict(as_of="2024-01-31")[0] == 200
    assert worker.predict(as_of="2024-01-31T01:00:00+01:00")[0] == 200


def test_an_unknown_model(worker: Worker) -> None:
    found = worker.call("POST", "/models/other/predict", GOOD)
    assert (found[0], problem(found)["code"]) == (404, "unknown_model")


@pytest.mark.parametrize(
    "raw", [b"{", b'{"user_id": NaN}', b'{"user_id":"u1","user_id":"u2","gift":true}', b"\xff", b"[" * 50_000]
)
def test_bodies_that_are_not_json(worker: Worker, raw: bytes) -> None:
    found = worker.call("POST", "/predict", raw=raw)
    assert (found[0], problem(found)["code"] in {"invalid_json", "duplicate_key", "too_deep"}) == (400, True)


def test_another_content_type(worker: Worker) -> None:
    found = worker.call("POST", "/predict", GOOD, {"Content-Type": "text/plain"})
    assert (found[0], problem(found)["code"]) == (415, "unsupported_media_type")


def test_a_body_of_ten_megabytes(worker: Worker) -> None:
    found = worker.call("POST", "/predict", raw=b'{"user_id": "' + b"x" * 10_000_000 + b'"}')
    assert (found[0], problem(found)["code"]) == (413, "body_too_large")
    assert found[1]["connection"] == "close"


def test_ten_megabytes_in_chunks_without_a_length(worker: Worker) -> None:
    parts = urlsplit(worker.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    chunks = (b"x" * 100_000 for _ in range(100))
    connection.request("POST", "/predict", chunks, {"Content-Type": "application/json"}, encode_chunked=True)
    with connection.getresponse() as response:
        assert response.status == 413
        assert json.loads(response.read())["code"] == "body_too_large"
    connection.close()


def raw_request(worker: Worker, sent: bytes, wait: float = 5.0) -> bytes:
    parts = urlsplit(worker.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=wait) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65_536):  # the server closes after such an answer
            answer += part
        return answer


def test_a_length_that_will_never_be_read_is_refused_at_once(worker: Worker) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    assert raw_request(worker, head).startswith(b"HTTP/1.1 413")


def test_a_body_that_never_comes(worker: Worker) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    answer = raw_request(worker, head)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in answer


def test_bodies_that_come_slowly_hold_no_place(worker: Worker) -> None:
    parts = urlsplit(worker.url)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    waiting = [socket.create_connection((parts.hostname, parts.port)) for _ in range(8)]
    for connection in waiting:
        connection.sendall(head)
    time.sleep(0.1)
    assert worker.predict()[0] == 200
    for connection in waiting:
        connection.close()


def test_another_host_is_not_answered(worker: Worker) -> None:
    found = worker.call("POST", "/predict", GOOD, {"Host": "evil.example:8400"})
    assert (found[0], problem(found)["code"]) == (421, "host_not_allowed")
    assert worker.call("POST", "/predict", GOOD, {"Host": "localhost:9"})[0] == 200


def test_request_ids(worker: Worker) -> None:
    _, headers, answer = worker.call("POST", "/predict", GOOD, {"X-Request-Id": "mine:1"})
    assert (answer["request_id"], headers["x-request-id"]) == ("mine:1", "mine:1")
    assert worker.predict(request_id="mine.2")[1]["request_id"] == "mine.2"
    made = worker.predict()[1]["request_id"]
    assert made != worker.predict()[1]["request_id"]
    bad = worker.call("POST", "/predict", GOOD, {"X-Request-Id": "a b"})
    assert problem(bad)["code"] == "invalid_request_id"
    differ = worker.call("POST", "/predict", {**GOOD, "request_id": "a"}, {"X-Request-Id": "b"})
    assert problem(differ)["code"] == "invalid_request_id"
    kept = worker.call("POST", "/predict", {**GOOD, "user_id": "nobody", "request_id": "mine.3"})
    assert problem(kept)["request_id"] == "mine.3", "a refusal carries the caller's id too"


def test_a_value_never_seen_in_training_is_marked(worker: Worker) -> None:
    sent = {"hours": 3, "plan": "New", "fee": None, "since": "2024-01-01"}
    status, _, answer = worker.call("POST", "/predict", {"gift": True, "features": sent})
    assert (status, answer["unseen"]) == (200, ["plan"])
    assert "ecluse_unseen_values_total" in worker.call("GET", "/metrics")[2]


def test_stale_and_missing_features(house: House, worker: Worker) -> None:
    house.fill(["old"], JANUARY - timedelta(days=46))
    found = worker.call("POST", "/predict", {**GOOD, "user_id": "old"})
    assert (found[0], problem(found)["code"], problem(found)["field"]) == (503, "feature_stale", "hours")
    assert found[1]["retry-after"] == "30"
    house.online.write("profile", [("half", next(iter(house.online.read(["profile"], "u1").values())))])
    found = worker.call("POST", "/predict", {**GOOD, "user_id": "half"})
    assert (found[0], problem(found)["code"]) == (503, "feature_missing")
    house.online.write("usage", [("other", next(iter(house.online.read(["usage"], "u1").values())))])
    status, answer = worker.predict("other")
    assert status == 200
    assert answer["degraded"], "what the contract lets pass is said in the answer"


def test_refused_requests_are_counted_by_code_and_never_journaled(house: House, worker: Worker) -> None:
    before = len(house.records())
    worker.call("POST", "/predict", {**GOOD, "user_id": "nobody"})
    worker.call("POST", "/predict", raw=b"{")
    assert len(house.records()) == before
    text = worker.call("GET", "/metrics")[2]
    assert 'code="unknown_entity",model="churn",route="/predict",status="404",version="1"' in text
    assert 'ecluse_request_seconds_count{outcome="error",route="/predict"}' in text


def test_outcomes(house: House, worker: Worker) -> None:
    sent = [{"user_id": "u1", "at": "2024-01-31", "value": True}, {"request_id": "mine:1", "value": False}]
    assert worker.call("POST", "/outcomes", sent)[::2] == (202, {"accepted": 2})
    assert worker.call("POST", "/models/churn/outcomes", sent[0])[0] == 202
    kept = [record for record in house.records() if record["kind"] == "outcome"]
    assert [(r["entity"], r["request_id"], r["value"]) for r in kept] == [
        ("u1", None, True),
        (None, "mine:1", False),
        ("u1", None, True),
    ]
    assert kept[0]["at"] == "2024-01-31T00:00:00.000000Z"
    assert kept[0]["known_at"] is None
    assert worker.call("POST", "/outcomes", {**sent[1], "known_at": "2024-02-03"})[0] == 202
    assert house.records()[-1]["known_at"] == "2024-02-03T00:00:00.000000Z"
    elsewhere = worker.call("POST", "/models/other/outcomes", {**sent[1], "model": "churn"})
    assert problem(elsewhere)["code"] == "ambiguous_request"


def test_what_is_as_deep_as_can_just_be_read_is_refused_like_the_rest(worker: Worker) -> None:
    for depth in range(900, 1_010):
        raw = b'{"user_id": "u1", "gift": true, "request_id": %b%b}' % (b"[" * depth, b"]" * depth)
        code = problem(worker.call("POST", "/predict", raw=raw))["code"]
        assert code in ("invalid_request_id", "too_deep"), depth


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "missing_field"),
        ([1], "wrong_type"),
        ({"value": True}, "missing_field"),
        ({"user_id": "u1", "value": True}, "missing_field"),
        ({"user_id": "u1", "at": "2024-01-31"}, "missing_field"),
        ({"request_id": None, "value": True}, "missing_value"),
        ({"request_id": "a", "value": True, "known_at": "soon"}, "invalid_instant"),
        ({"request_id": "a", "value": True, "known_at": None}, "wrong_type"),
        ({"request_id": "a", "value": 1}, "wrong_type"),
        ({"request_id": "a", "user_id": "u1", "value": True}, "ambiguous_request"),
        ({"request_id": "a", "value": True, "colour": 1}, "unknown_field"),
        ({"request_id": "a", "value": True, "model": "other"}, "unknown_model"),
        ({"request_id": "a", "value": True, "model": None}, "unknown_model"),
    ],
)
def test_outcomes_that_cannot_be_used(house: House, worker: Worker, body: Any, code: str) -> None:
    before = len(house.records())
    good = {"request_id": "ok", "value": True}
    assert problem(worker.call("POST", "/outcomes", body))["code"] == code
    if isinstance(body, dict):
        listed = problem(worker.call("POST", "/outcomes", [good, body]))
        assert listed["code"] == code
    assert len(house.records()) == before, "a list is kept whole or not at all"
