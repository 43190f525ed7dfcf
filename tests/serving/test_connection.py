"""A connection: requests in every shape HTTP/1.1 allows, in order, each wait bounded. Against a real worker over real sockets."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.house import Worker, ready_house, running

BODY = json.dumps({"user_id": "u1", "gift": True}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PLAIN = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Trailer: no\r\n\r\n" % (len(BODY), BODY)
ONE = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]+\r\n(.*?)\r\n\r\n", re.DOTALL)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with running(ready_house(tmp_path_factory.mktemp("connection")), header_seconds=0.5, deadline_ms=800) as worker:
        yield worker


def connect(worker: Worker) -> socket.socket:
    parts = urlsplit(worker.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


def read(connection: socket.socket, wanted: int = 1, *, head_only: bool = False) -> list[tuple[int, bytes, bytes]]:
    """(status, head, body) of so many answers; fewer when the connection ends before."""
    data, found = b"", list[tuple[int, bytes, bytes]]()
    while len(found) < wanted:
        data = data.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        match = ONE.match(data)
        length = re.search(rb"content-length: (\d+)", match.group(2)) if match else None
        size = 0 if head_only else int(length.group(1)) if length else 0
        if match is not None and len(data) >= match.end() + size:
            found.append((int(match.group(1)), match.group(2), data[match.end() : match.end() + size]))
            data = data[match.end() + size :]
            continue
        piece = connection.recv(65_536)
        if not piece:
            break
        data += piece
    return found


def closed(connection: socket.socket) -> bool:
    """Whether the server has ended it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([PLAIN, CHUNKED]), min_size=1, max_size=4), st.data())
def test_requests_cut_anywhere_are_answered_in_order(
    worker: Worker, requests: list[bytes], data: st.DataObject
) -> None:
    sent = b"".join(requests)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=4)))
    with connect(worker) as connection:
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            connection.sendall(sent[start:end])
            time.sleep(0.001)
        answers = read(connection, len(requests))
    assert [status for status, _, _ in answers] == [200] * len(requests)
    numbers = [int(json.loads(body)["prediction_id"].rsplit("-", 1)[1]) for _, _, body in answers]
    assert numbers == sorted(numbers)


def test_a_head_request_has_a_get_s_head_and_no_body(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(b"HEAD /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        (ready,) = read(connection, head_only=True)
        assert (ready[0], re.search(rb"content-length: [1-9]", ready[1]) is not None) == (200, True)
        connection.sendall(PLAIN)
        assert read(connection)[0][0] == 200, "what follows is the next answer, not a body"


@pytest.mark.parametrize("target", [b"/predict?a=b", b"http://localhost/predict", b"/%70redict"])
def test_targets_that_mean_the_same(worker: Worker, target: bytes) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN.replace(b"/predict", target, 1))
        assert read(connection)[0][0] == 200


def test_http_1_0_and_connection_close_end_after_the_answer(worker: Worker) -> None:
    for request in (
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0", 1),
        PLAIN.replace(b"Host", b"Connection: close\r\nHost", 1),
    ):
        with connect(worker) as connection:
            connection.sendall(request)
            ((status, head, _),) = read(connection)
            assert (status, b"connection: close" in head, closed(connection)) == (200, True, True)


def test_an_offer_of_http_2_is_answered_as_http_1_1_body_and_all(worker: Worker) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    with connect(worker) as connection:
        connection.sendall(HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:5])
        time.sleep(0.01)
        connection.sendall(BODY[5:])
        assert read(connection)[0][0] == 200
        assert closed(connection)


def test_continue_is_said_only_to_who_may_go_on(worker: Worker) -> None:
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with connect(worker) as connection:
        connection.sendall(expecting % len(BODY))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert read(connection)[0][0] == 200
    with connect(worker) as connection:
        connection.sendall(expecting % 10_000_000)
        assert read(connection)[0][0] == 413


def test_a_refusal_by_the_head_does_not_wait_for_the_body(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        assert read(connection)[0][0] == 404
        connection.sendall(b"x" * 100 + PLAIN)
        assert read(connection)[0][0] == 200, "the connection goes on behind the body nobody wanted"


def test_a_body_too_large_is_answered_though_it_is_sent_to_its_end(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        ((status, head, _),) = read(connection)
        assert (status, b"connection: close" in head, closed(connection)) == (413, True, True)


def test_a_body_that_stops_is_answered_at_the_deadline(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN[:-5])
        ((status, _, body),) = read(connection)
        assert (status, json.loads(body)["code"], closed(connection)) == (408, "body_timeout", True)


def test_a_stopped_body_behind_an_answer_under_way(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN + PLAIN[:-5])
        answers = read(connection, 2)
        assert [status for status, _, _ in answers] == [200, 408]


def test_garbage_behind_a_request_does_not_cost_its_answer(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN + b"\x00\x01 no http\r\n\r\n")
        statuses = [status for status, _, _ in read(connection, 3)]
        assert statuses in ([200], [200, 400])
        assert closed(connection)


@pytest.mark.parametrize(
    "lines",
    [b"Host: a\r\nHost: localhost\r\n", b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nHost: localhost\r\n"],
)
def test_a_header_sent_twice_is_both(worker: Worker, lines: bytes) -> None:
    with connect(worker) as connection:
        connection.sendall(b"GET /models HTTP/1.1\r\n" + lines + b"\r\n")
        assert read(connection)[0][0] == (400 if lines.startswith(b"Host: a") else 200), "profile dev asks for no key"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length : 5\r\n",
        b" Folded: yes\r\n",
    ],
)
def test_lengths_that_two_servers_might_read_differently_are_refused(worker: Worker, lines: bytes) -> None:
    with connect(worker) as connection:
        connection.sendall(HEAD + lines + b"\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers = read(connection, 2)
        assert [status for status, _, _ in answers] in ([400], [])
        assert closed(connection)


@pytest.mark.parametrize(
    "sent", [PLAIN, CHUNKED, PLAIN * 3, PLAIN + PLAIN[:-5]], ids=["one", "chunked", "three", "cut"]
)
def test_a_caller_that_sends_no_more_is_answered_before_the_end(worker: Worker, sent: bytes) -> None:
    with connect(worker) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answers = read(connection, 4)
        assert [status for status, _, _ in answers] == [200] * max(1, sent.count(BODY)), "the server has ended it"
    assert worker.predict()[0] == 200


def test_a_caller_that_does_not_read_costs_one_answer_at_a_time(worker: Worker, tmp_path: Path) -> None:
    with connect(worker) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(0.3)
        request, sent = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50, 0
        try:
            for _ in range(2_000):
                sent += connection.send(request)
        except TimeoutError:
            pass
        assert sent < 2_000 * len(request), "the server stops reading"
        resident = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker.process.pid}/status").read_text())[0])
        assert resident < 400_000
        assert worker.predict()[0] == 200
