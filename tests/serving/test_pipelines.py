"""A connection: what comes behind a request that is still being answered, and what a caller cannot make it keep. Over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.house import Worker, ready_house, running
from tests.serving.inside import plane_of
from tests.serving.test_connection import HEAD, PLAIN, closed, connect, read

from ecluse.serving.connection import Connection
from ecluse.serving.http import Application

MANY = 40
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with running(ready_house(tmp_path_factory.mktemp("pipelines")), header_seconds=0.5, deadline_ms=2_000) as worker:
        yield worker


def resident(worker: Worker) -> int:
    """Kilobytes."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker.process.pid}/status").read_text())[0])


def statuses(connection: socket.socket, wanted: int) -> list[int]:
    return [status for status, _, _ in read(connection, wanted)]


def test_hundreds_of_requests_of_all_kinds_are_answered_in_order(worker: Worker) -> None:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    kinds = [(PLAIN, 200), (HEALTH, 200), (chunked, 422), (PLAIN.replace(b"/predict", b"/nowhere", 1), 404)]
    with connect(worker) as connection:
        connection.sendall(b"".join(request for request, _ in kinds) * 200)
        assert statuses(connection, 800) == [status for _, status in kinds] * 200


def test_a_body_that_stops_behind_many_requests_is_answered_at_its_deadline(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN * MANY + PLAIN[:-5])
        assert statuses(connection, MANY + 1) == [200] * MANY + [408]
        assert closed(connection)


def test_a_head_that_stops_behind_many_requests_is_answered_at_its_deadline(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN * MANY + HEAD)
        assert statuses(connection, MANY + 1) == [200] * MANY + [408]
        assert closed(connection)


def test_garbage_behind_many_requests_costs_none_its_answer(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(PLAIN * MANY + b"\x00\x01 no http\r\n\r\n")
        assert statuses(connection, MANY + 1)[:MANY] == [200] * MANY
        assert closed(connection)


def test_an_offer_of_http_2_behind_many_requests_costs_none_its_answer(worker: Worker) -> None:
    for offer in (PLAIN.replace(b"Host", UPGRADE + b"Host", 1), HEALTH.replace(b"Host", UPGRADE + b"Host", 1)):
        with connect(worker) as connection:
            connection.sendall(PLAIN * MANY + offer)
            answers = read(connection, MANY + 2)
            assert [status for status, _, _ in answers] == [200] * (MANY + 1)
            assert b"connection: close" in answers[-1][1], "nothing is read behind it"
            assert b"connection: close" not in answers[-2][1]


def test_an_offer_of_http_2_with_a_body_of_unknown_length_is_refused_by_name(worker: Worker) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with connect(worker) as connection:
        connection.sendall(HEAD + UPGRADE + chunked + HEALTH)
        ((status, _, body),) = read(connection, 2)
        assert (status, b"how long the body is" in body, closed(connection)) == (400, True, True)


def test_a_request_to_continue_behind_others_is_told_so(worker: Worker) -> None:
    head, body = PLAIN[: -len(PLAIN.split(b"\r\n\r\n")[1])], PLAIN.split(b"\r\n\r\n")[1]
    with connect(worker) as connection:
        connection.sendall(PLAIN * MANY + head.replace(b"Host", b"Expect: 100-continue\r\nHost", 1))
        said = b""
        while b"100 Continue\r\n\r\n" not in said:
            said += connection.recv(65_536)
        assert said.count(b"HTTP/1.1 200 ") == MANY
        connection.sendall(body)
        assert statuses(connection, 1) == [200]


def test_a_refusal_of_who_asked_to_continue_ends_the_connection(worker: Worker) -> None:
    """Some send the body all the same and some do not: what follows could be read as either."""
    with connect(worker) as connection:
        connection.sendall(
            PLAIN.replace(b"/predict", b"/nowhere", 1)
            .replace(b"Host", b"Expect: 100-continue\r\nHost", 1)
            .split(b"{")[0]
        )
        ((status, head, _),) = read(connection)
        assert (status, b"connection: close" in head) == (404, True)
        connection.sendall(HEALTH)
        assert read(connection) == []


def test_a_broken_body_gets_no_second_answer(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert statuses(connection, 1) == [404]
        connection.sendall(b"no chunk\r\n")
        assert closed(connection)


def test_nothing_is_done_behind_an_answer_that_closes(worker: Worker) -> None:
    large = HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000
    before = kept(worker)
    with connect(worker) as connection:
        connection.sendall(large + PLAIN * 3)
        assert statuses(connection, 4)[0] == 413
    assert kept(worker) == before


def kept(worker: Worker) -> str:
    return str(
        re.findall(r'ecluse_journal_records_total{kind="prediction"} (\S+)', worker.call("GET", "/metrics")[2])[0]
    )


@pytest.mark.parametrize("first", [b"", PLAIN * MANY])
@pytest.mark.parametrize(
    "header",
    [b"X-Long: " + b"x" * 150_000, b"\r\n".join(b"X-%d: 1" % i for i in range(15_000)), b"\r\n".join([b"a:"] * 40_000)],
)
def test_a_head_is_bounded_however_it_comes(worker: Worker, first: bytes, header: bytes) -> None:
    with connect(worker) as connection:
        try:
            connection.sendall(first + b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
            found = statuses(connection, MANY + 1)
        except ConnectionError:
            return
        assert found == [200] * (len(first) // len(PLAIN)) + [431]


def test_a_trailer_is_bounded(worker: Worker) -> None:
    with connect(worker) as connection:
        try:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: " + b"x" * 300_000)
            assert statuses(connection, 1) == [431]
        except ConnectionError:
            pass


def test_a_pipeline_nobody_reads_costs_little(worker: Worker) -> None:
    before, connections = resident(worker), [connect(worker) for _ in range(20)]
    try:
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.settimeout(0.1)
            try:
                while True:
                    connection.send(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
            except (TimeoutError, ConnectionError):
                pass
        assert resident(worker) - before < 40_000
        assert worker.predict()[0] == 200
    finally:
        for connection in connections:
            connection.close()


def test_refusals_before_the_body_are_not_written_to_who_does_not_read(tmp_path: Path) -> None:
    one = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"

    async def written(reads: bool) -> bytes:
        transport = _Kept()
        connection = Connection(Application(plane), set())
        connection.connection_made(transport)
        if not reads:
            connection.pause_writing()
        for _ in range(50):
            connection.data_received(one)
            connection.data_received(b"x")
        connection.connection_lost(None)
        return transport.written

    with plane_of(ready_house(tmp_path)) as plane:
        assert asyncio.run(written(reads=True)).count(b" 404 ") == 50
        assert asyncio.run(written(reads=False)) == b""


class _Kept(asyncio.Transport):
    """Keeps what is written."""

    written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing comes by itself."""


def test_a_header_many_times_over_is_no_work_that_grows_with_its_square(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(HEAD + b"a:\r\n" * 1_500)
        assert statuses(connection, 1) == [431], "though they are few bytes, and more may come"


def test_a_kept_connection_of_http_1_0_is_closed_or_said_to_be_kept(worker: Worker) -> None:
    with connect(worker) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\nHost: localhost\r\n\r\n")
        assert b"connection: close" in read(connection)[0][1]
        assert closed(connection)


def test_a_drain_answers_what_was_sent_and_does_not_wait_for_bodies_already_refused(tmp_path: Path) -> None:
    with (
        running(ready_house(tmp_path), drain_seconds=60.0) as worker,
        connect(worker) as refused,
        connect(worker) as many,
    ):
        refused.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        assert statuses(refused, 1) == [404]
        many.sendall(PLAIN * 2_000)
        worker.process.terminate()
        time.sleep(0.2)
        refused.sendall(b"x" * 100)
        answers = read(many, 2_000)
        assert [status for status, _, _ in answers] == [200] * len(answers)
        assert len(answers) == 2_000 or b"connection: close" in answers[-1][1]
        assert worker.process.wait(20) == 0


def test_an_error_of_ours_costs_its_connection_and_no_other(tmp_path: Path) -> None:
    script = str(Path(__file__).parent / "faulty_worker.py")
    with running(ready_house(tmp_path), program=(script,)) as worker:
        for fault in (b"/now", b"/later", b"/status"):
            with connect(worker) as connection:
                connection.sendall(PLAIN + HEALTH.replace(b"/health", fault, 1) + PLAIN)
                with contextlib.suppress(ConnectionError):
                    assert statuses(connection, 3) == [200]
            assert worker.predict()[0] == 200
        assert worker.stop() == 0
        assert worker.log.read_text().count("Traceback") >= 3
