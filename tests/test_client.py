"""The client against a real worker, and against servers that do what servers should not."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from tests.serving.house import JANUARY, House, Worker, ready_house, running

from ecluse.client import Answer, Client, Problem
from ecluse.core.errors import Corrupt, InvalidInput, Unavailable

ROW: dict[str, object] = {"user_id": "u1", "gift": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house) as worker:
        yield worker


def test_a_prediction(worker: Worker, house: House) -> None:
    with Client(worker.url) as client:
        found = client.predict(ROW | {"request_id": "mine"}, model="churn")
        plain = worker.predict("u1")[1]
        assert (found.entity, found.request_id, found.model, found.version) == ({"user_id": "u1"}, "mine", "churn", 1)
        assert (found.score, found.decision, found.threshold) == (plain["proba"], plain["decision"], 0.5)
        assert (found.as_of, found.moments["usage"], found.timestamp) == (JANUARY, JANUARY, JANUARY)
        assert house.records()[-2]["id"] == found.prediction_id
        explicit = {"hours": 1, "plan": "New", "fee": None, "since": datetime(2024, 1, 1, tzinfo=UTC)}
        assert client.predict({"features": explicit, "gift": False}).unseen == ("plan",)


def test_a_batch_and_its_outcomes(worker: Worker, house: House) -> None:
    with Client(worker.url) as client:
        found = client.predict_batch([ROW, {"user_id": "nobody", "gift": True}], request_id="many")
        first, second = found
        assert isinstance(first, Answer)
        assert isinstance(second, Problem)
        assert (first.request_id, second.request_id) == ("many.0", "many.1")
        assert (second.code, second.status, second.field) == ("unknown_entity", 404, "user_id")
        assert client.outcomes([{"request_id": first.request_id, "value": True}], model="churn") == 1
        assert house.records()[-1]["request_id"] == "many.0"


def test_the_server_s_no(worker: Worker) -> None:
    with Client(worker.url, key="not asked for here") as client:
        refuses(client)


def refuses(client: Client) -> None:
    for request, code, field in (
        (ROW | {"colour": 1}, "unknown_field", "colour"),
        (ROW | {"request_id": "no\nspaces é"}, "invalid_request_id", "request_id"),
        ({}, "missing_field", "user_id"),
    ):
        with pytest.raises(Problem) as caught:
            client.predict(request)
        assert (caught.value.status, caught.value.code, caught.value.field) == (422, code, field)
        assert caught.value.cure
    with pytest.raises(Problem) as caught:
        client.predict(ROW, model="a b")
    assert (caught.value.status, caught.value.code) == (404, "unknown_model")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), datetime(2024, 1, 1)])  # noqa: DTZ001 - without a zone on purpose
def test_what_is_no_json_is_not_sent(worker: Worker, value: object) -> None:
    with Client(worker.url) as client, pytest.raises(InvalidInput, match="no JSON"):
        client.predict(ROW | {"gift": value})


def test_ready_and_models(worker: Worker) -> None:
    with Client(worker.url) as client:
        assert client.ready()
        assert client.models()["churn"]["serving"] == 1


def test_threads_share_a_client(worker: Worker) -> None:
    with Client(worker.url) as client, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: client.predict({"user_id": f"u{i % 10}", "gift": True}), range(80)))
    assert [each.entity["user_id"] for each in found] == [f"u{i % 10}" for i in range(80)]


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://host", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidInput):
        Client(url)


# -- servers that do what servers should not ------------------------------------------------------------------------------

OK = b'{"generation":1,"models":{}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"


@contextlib.contextmanager
def serving(
    serve: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[int]]]:
    """Each connection is given to ``serve`` with its number; the list counts them."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[int] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                opened.append(len(opened))
                threading.Thread(target=talk, args=(connection, opened[-1]), daemon=True).start()

    def talk(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            if tls is None:
                serve(connection, number)
            else:
                with tls.wrap_socket(connection, server_side=True) as wrapped:
                    serve(wrapped, number)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}", opened
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answer(connection: socket.socket, body: bytes = OK, more: bytes = b"") -> bool:
    """Read one request, if there is one, and answer it."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65_536)):
            return False
        data += part
    connection.sendall(HEAD % (len(body), more) + body)
    return True


def test_connections_are_kept() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while answer(connection):
            pass

    with serving(serve) as (url, opened), Client(url) as client:
        for _ in range(5):
            assert client.models() == {}
        assert opened == [0]


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_a_connection_the_server_closed_is_not_used_again(more: bytes) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        answer(connection, more=more)

    with serving(serve) as (url, opened), Client(url) as client:
        for _ in range(3):
            assert client.models() == {}
            time.sleep(0.05)
        assert opened == [0, 1, 2]


def test_nothing_is_sent_twice() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65_536)

    with serving(serve) as (url, opened):
        with pytest.raises(Unavailable, match="as request mine") as caught:
            Client(url).predict(ROW | {"request_id": "mine"})
        time.sleep(0.1)
        assert opened == [0]
        assert "RemoteDisconnected" in caught.value.what or "Reset" in caught.value.what


@pytest.mark.parametrize("part", [b"", b"H", HEAD % (1_000, b"") + b" "])
def test_one_deadline_for_the_whole_call(part: bytes) -> None:
    """A byte now and then resets every timeout of a socket; it does not move a deadline."""

    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65_536)
        connection.sendall(part)
        while part:
            time.sleep(0.05)
            connection.sendall(b" ")
        time.sleep(5)

    with serving(serve) as (url, _):
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            Client(url, timeout=0.3).models()
        assert time.monotonic() - begun < 3


# -- over TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate for 127.0.0.1, which clients of this process trust."""
    key = Ed25519PrivateKey.generate()
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1))
    made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    path, plain = tmp_path / "server.pem", serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, pkcs8, plain) + made.sign(key, None).public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_connections_over_tls_are_kept(tls: ssl.SSLContext) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while answer(connection):
            pass

    with serving(serve, tls) as (url, opened), Client(url) as client:
        for _ in range(5):
            assert client.models() == {}
        assert opened == [0]


@pytest.mark.parametrize("part", [b"", b"H", HEAD % (1_000, b"") + b" "])
def test_one_deadline_over_tls(tls: ssl.SSLContext, part: bytes) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65_536)
        for _ in range(100):
            connection.sendall(part)
            time.sleep(0.05)

    with serving(serve, tls) as (url, _):
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            Client(url, timeout=0.3).models()
        assert time.monotonic() - begun < 3


def test_a_certificate_nobody_vouches_for(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with (
        serving(lambda connection, number: None, tls) as (url, _),
        pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        Client(url).models()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match="nobody answers"):
        Client(f"http://127.0.0.1:{port}").ready()
    with pytest.raises(Unavailable):
        Client(f"http://127.0.0.1:{port}", timeout=0.0).ready()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"models": 1}', b""])
def test_an_answer_of_something_else(body: bytes) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while answer(connection, body):
            pass

    with serving(serve) as (url, _), Client(url) as client:
        calls: list[Callable[[], Any]] = [
            client.models,
            lambda: client.predict(ROW),
            lambda: client.predict_batch([ROW]),
            lambda: client.outcomes([]),
        ]
        for call in calls:
            with pytest.raises(Corrupt, match="none of a worker's"):
                call()


def test_a_refusal_of_something_else() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\n<html")

    with serving(serve) as (url, _), Client(url) as client:
        with pytest.raises(Problem) as caught:
            client.models()
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (502, "http_502", 7.0)


def test_a_worker_that_is_not_ready() -> None:
    body = json.dumps({"code": "draining", "detail": "the server is shutting down"}).encode()

    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with serving(serve) as (url, _), Client(url) as client:
        assert not client.ready()


def test_scores_of_other_tasks() -> None:
    moment = "2024-01-31T00:00:00.000000Z"
    texts = dict.fromkeys(("as_of", "timestamp"), moment) | {"prediction_id": "p", "request_id": "r", "model": "m"}
    facts: dict[str, Any] = texts | {"version": 1, "threshold": None, "moments": {}, "unseen": [], "degraded": []}
    bodies = [facts | {"value": 2, "decision": None}, facts | {"probabilities": {"a": 0.2, "b": 0.8}, "decision": "b"}]

    def serve(connection: socket.socket, number: int) -> None:
        for body in bodies:
            answer(connection, json.dumps(body).encode())

    with serving(serve) as (url, _), Client(url) as client:
        assert (found := client.predict({})).score == 2.0
        assert (found.probabilities, found.decision) == (None, None)
        assert (found := client.predict({})).score == 0.8
        assert (found.probabilities, found.decision) == ({"a": 0.2, "b": 0.8}, "b")
