"""Places and the queue for them, deadlines that stop work, and connections that send no request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.house import House, Worker, ready_house, running
from tests.serving.inside import Answer, ask, plane_of

from ecluse.serving.call import Call
from ecluse.serving.http import Application
from ecluse.serving.places import Places
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused

GOOD = {"user_id": "u1", "gift": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("admission"))


# -- places -------------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    places=st.integers(1, 4),
    queue=st.integers(0, 4),
    visits=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), max_size=30),
)
def test_places_are_never_exceeded_nor_lost(places: int, queue: int, visits: list[tuple[int, int, bool]]) -> None:
    """Whoever comes, waits, is cancelled or comes too late: at most ``places`` are inside, and all places are free in the end."""

    async def scenario() -> None:
        admission, most = Places(places, queue), 0

        async def visit(arrive: int, stay: int, in_a_hurry: bool) -> None:
            nonlocal most
            for _ in range(arrive):
                await asyncio.sleep(0)
            with contextlib.suppress(Refused):
                await admission.enter(time.perf_counter() + (0.0 if in_a_hurry else 5.0))
                most = max(most, admission.in_flight)
                assert admission.waiting <= queue
                try:
                    for _ in range(stay):
                        await asyncio.sleep(0)
                finally:
                    admission.leave()

        tasks = [asyncio.create_task(visit(*each)) for each in visits]
        for task, (arrive, stay, _) in zip(tasks, visits, strict=True):
            if (arrive + stay) % 5 == 4:
                asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= places
        assert (admission.in_flight, admission.waiting) == (0, 0)

    asyncio.run(scenario())


def test_places_are_given_in_the_order_of_arrival() -> None:
    async def scenario() -> list[int]:
        admission, order = Places(1, 10), []
        await admission.enter(time.perf_counter() + 5)

        async def visit(i: int) -> None:
            await admission.enter(time.perf_counter() + 5)
            order.append(i)
            admission.leave()

        tasks = [asyncio.create_task(visit(i)) for i in range(5)]
        await asyncio.sleep(0)
        admission.leave()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(scenario()) == [0, 1, 2, 3, 4]


class SlowOnline:
    """The online store behind a gate: reads wait until it is opened."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.gate, self.reads = inner, asyncio.Event(), 0

    async def fetch(self, views: Sequence[str], key: str) -> Any:
        """As the store within, once the gate is open."""
        self.reads += 1
        await self.gate.wait()
        return await self._inner.fetch(views, key)

    async def newest(self, view: str) -> int | None:
        """As the store within."""
        return await self._inner.newest(view)  # type: ignore[no-any-return]


def test_beyond_places_and_queue_is_refused_at_once(house: House) -> None:
    async def scenario(plane: Plane) -> tuple[list[Answer], SlowOnline]:
        slow = SlowOnline(plane.parts.online)
        plane.parts = replace(plane.parts, online=slow)
        application = Application(plane)
        waiting = [asyncio.create_task(ask(application, "POST", "/predict", GOOD)) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert (plane.in_flight, plane.admission.waiting) == (2, 3)
        refused = await ask(application, "POST", "/predict", GOOD)
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "overloaded", "1")
        assert (await ask(application, "GET", "/health")).status == 200, "whoever looks after the server still gets in"
        assert slow.reads == 2
        slow.gate.set()
        return await asyncio.gather(*waiting), slow

    with plane_of(house, max_in_flight=2, max_waiting=3, deadline_ms=5_000) as plane:
        answered, slow = asyncio.run(scenario(plane))
        assert [answer.status for answer in answered] == [200] * 5
        assert slow.reads == 5
        assert (plane.in_flight, plane.admission.waiting) == (0, 0)


# -- deadlines ----------------------------------------------------------------------------------------------------------


class CountingScorer:
    """A scorer that counts what it is asked."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.rows = inner, 0

    def score(self, matrix: Any) -> Any:
        """As the scorer within."""
        self.rows += len(matrix)
        return self._inner.score(matrix)


def counting(plane: Plane) -> CountingScorer:
    """The champion's scorer, counted from now on."""
    champion = plane.fleet.champions["churn"]
    scorer = CountingScorer(champion.scorer)
    plane.fleet = replace(plane.fleet, champions={"churn": replace(champion, scorer=scorer)})
    return scorer


def late(house: House, waits: str) -> tuple[Answer, int, int]:
    """A request whose deadline passes before it begins, while it waits for a place, or while its features are read."""

    async def scenario(plane: Plane) -> tuple[Answer, int, int]:
        slow, scorer = SlowOnline(plane.parts.online), counting(plane)
        plane.parts = replace(plane.parts, online=slow)
        application = Application(plane)
        if waits == "place":
            await plane.admission.enter(time.perf_counter() + 5)
        timeout = {"x-request-timeout-ms": "0" if waits == "nothing" else "20"}
        if waits == "nothing":
            slow.gate.set()
        elif waits == "features":
            asyncio.get_running_loop().call_later(0.05, slow.gate.set)
        return await ask(application, "POST", "/predict", GOOD, headers=timeout), slow.reads, scorer.rows

    with plane_of(house, max_in_flight=1) as plane:
        return asyncio.run(scenario(plane))


@pytest.mark.parametrize(("waits", "reads"), [("nothing", 0), ("place", 0), ("features", 1)])
def test_expired_work_runs_no_inference(house: House, waits: str, reads: int) -> None:
    before = len(house.records())
    answer, read, scored = late(house, waits)
    assert (answer.status, answer.code) == (503, "deadline_exceeded")
    assert (read, scored) == (reads, 0)
    assert len(house.records()) == before


def test_a_deadline_nobody_looks_at_is_seen(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect that turns the test above red."""
    monkeypatch.setattr(Call, "in_time", lambda self: None)
    assert late(house, "nothing")[2] == 1
    assert late(house, "features")[2] == 1


@pytest.mark.parametrize("asked", ["soon", "-1", "1.5", "", "9999999999"])
def test_a_deadline_that_cannot_be_read(house: House, asked: str) -> None:
    with plane_of(house) as plane:
        answer = asyncio.run(ask(Application(plane), "POST", "/predict", GOOD, headers={"x-request-timeout-ms": asked}))
    assert (answer.status, answer.code) == (400, "invalid_deadline")


def test_a_caller_cannot_ask_for_more_time_than_the_server_gives(house: House) -> None:
    async def scenario(plane: Plane) -> Answer:
        plane.parts = replace(plane.parts, online=SlowOnline(plane.parts.online))
        await plane.admission.enter(time.perf_counter() + 5)
        return await ask(Application(plane), "POST", "/predict", GOOD, headers={"x-request-timeout-ms": "600000"})

    with plane_of(house, max_in_flight=1, deadline_ms=30) as plane:
        assert asyncio.run(scenario(plane)).code == "deadline_exceeded"


# -- connections --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house, header_seconds=0.5, max_connections=10) as worker:
        yield worker


_opened: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Connections do not outlive their test."""
    yield
    while _opened:
        _opened.pop().close()


def connect(worker: Worker) -> socket.socket:
    parts = urlsplit(worker.url)
    _opened.append(socket.create_connection((parts.hostname, parts.port), timeout=10))
    return _opened[-1]


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            answer += part
    return answer


def status_of_health(connection: socket.socket) -> int:
    """Ask for /health on this connection, and read the whole answer."""
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with HTTPResponse(connection) as response:
        response.begin()
        response.read()
        return response.status


def problem(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head
    return json.loads(body)


def test_headers_that_never_end_are_given_up(worker: Worker) -> None:
    """Five slow senders, each a byte at a time: all are closed, and the others are served meanwhile."""
    slow = [connect(worker) for _ in range(5)]
    for i, connection in enumerate(slow):
        connection.sendall(b"POST /predict HTTP/1.1\r\n" if i % 2 else b"\r\n")
    for _ in range(5):
        time.sleep(0.05)
        for i, connection in enumerate(slow):
            connection.sendall(b"X: y\r\n" if i % 2 else b"\r\n")
        assert worker.predict()[0] == 200
    found = [problem(read_all(connection)) for connection in slow]
    assert {each["code"] for each in found} == {"header_timeout"}


def test_a_connection_that_says_nothing_is_closed(worker: Worker) -> None:
    assert read_all(connect(worker)) == b""


def test_a_head_begun_between_requests_is_timed_too(worker: Worker) -> None:
    connection = connect(worker)
    assert status_of_health(connection) == 200
    time.sleep(0.7)  # idle between requests may last longer
    assert status_of_health(connection) == 200
    connection.sendall(b"GET /health HT")
    assert problem(read_all(connection))["code"] == "header_timeout"


def test_headers_without_end_are_refused(worker: Worker) -> None:
    connection = connect(worker)
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    with contextlib.suppress(OSError):
        for _ in range(100):
            connection.sendall(b"X-Filler: " + b"y" * 8_000 + b"\r\n")
    assert read_all(connection)[:12] in (b"HTTP/1.1 431", b"")


def test_what_is_not_http_gets_a_problem(worker: Worker) -> None:
    connection = connect(worker)
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert problem(read_all(connection))["code"] == "invalid_request"


def test_connections_too_many(worker: Worker) -> None:
    body = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held = [connect(worker) for _ in range(10)]
    assert {status_of_health(connection) for connection in held} == {200}
    surplus = connect(worker)
    surplus.sendall(body)
    answer = read_all(surplus)
    assert (problem(answer)["code"], b"retry-after: 1" in answer) == ("overloaded", True)
    flood = [connect(worker) for _ in range(20)]
    assert status_of_health(held[0]) == 200, "who was there before is served"
    for connection in (*held, *flood):
        connection.close()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if worker.predict()[0] == 200:
                return
    raise AssertionError("the places of closed connections are not free again")


def test_slow_senders_take_no_memory(tmp_path: Path) -> None:
    """Hostile bodies, one after another and at once: the worker stays below 64 MiB more."""
    with running(ready_house(tmp_path), deadline_ms=300) as worker:
        before = resident(worker)
        deep, wide = b"[" * 10_000, b'{"x":[' + b"1," * 1_000_000 + b"1]}"
        for raw in (deep, wide, b'{"gift":1e309}', b'{"gift":NaN}', b'{"a":1,"a":2}', b"x" * 10_485_760):
            status, _, answer = worker.call("POST", "/predict", raw=raw)
            assert (status in (400, 413, 422), answer["status"]) == (True, status)
        slow = [connect(worker) for _ in range(50)]
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
        for connection in slow:
            connection.sendall(head + b"x" * 50_000)
        assert worker.predict()[0] == 200
        assert all(problem(read_all(connection))["code"] == "body_timeout" for connection in slow)
        assert resident(worker) - before < 64 * 2**20


def test_long_hosts_take_no_memory(tmp_path: Path) -> None:
    """Hosts that were allowed are remembered; what stands behind the colon is the caller's to choose."""
    with running(ready_house(tmp_path)) as worker:
        before = resident(worker)
        for i in range(600):
            assert worker.call("GET", "/ready", headers={"Host": f"localhost:{i}" + "x" * 50_000})[0] == 200
        assert resident(worker) - before < 15 * 2**20


def resident(worker: Worker) -> int:
    """Bytes of memory the worker holds."""
    pages = Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4_096
