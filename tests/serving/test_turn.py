"""A turn of the event loop: one call of the scorer and one write for all that came in it, and nobody answered for another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.bad_models import picky
from tests.serving.house import House, bundle, ready_house, running
from tests.serving.inside import Answer, ask, plane_of

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.errors import Unavailable
from ecluse.serving.http import Application
from ecluse.serving.plane import Plane
from ecluse.serving.turn import MOST

KEYS = [f"u{i}" for i in range(10)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


class Counted:
    """A scorer that remembers how many rows each call had, and refuses calls that hold a row with ``poison`` hours."""

    def __init__(self, inner: Any, poison: float | None = None) -> None:
        self._inner, self._poison, self.calls = inner, poison, list[int]()

    def score(self, matrix: Any) -> Any:
        """As the scorer within."""
        self.calls.append(len(matrix))
        if self._poison is not None and (matrix[:, 3] == self._poison).any():
            raise Unavailable("it cannot be scored", where="scorer")
        return self._inner.score(matrix)


class CountedJournal:
    """A journal that remembers how many records each write had."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.writes = inner, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append_many(self, records: Sequence[bytes]) -> Any:
        """As the journal within."""
        self.writes.append(len(records))
        return self._inner.append_many(records)


def counted(plane: Plane, poison: float | None = None) -> tuple[Counted, CountedJournal]:
    """The champion's scorer and the journal, counted from now on."""
    champion = plane.fleet.champions["churn"]
    scorer, journal = Counted(champion.scorer, poison), CountedJournal(plane.parts.journal)
    plane.fleet = replace(plane.fleet, champions={"churn": replace(champion, scorer=scorer)})
    plane.turns._journal = journal
    return scorer, journal


async def together(plane: Plane, bodies: Sequence[Any]) -> list[Answer]:
    """All asked before the loop comes round."""
    application = Application(plane)
    return await asyncio.gather(*(ask(application, "POST", "/predict", body) for body in bodies))


def explicit(hours: float) -> dict[str, Any]:
    features = {"hours": hours, "plan": "Gold", "fee": 9.5, "since": "2023-10-01T00:00:00Z"}
    return {"features": features, "gift": True}


def proba(answer: Answer) -> float:
    return float(json.loads(answer.body)["proba"])


def test_what_comes_together_is_scored_and_journaled_together(house: House) -> None:
    with plane_of(house) as plane:
        scorer, journal = counted(plane)
        answers = asyncio.run(together(plane, [{"user_id": key, "gift": True} for key in KEYS]))
        assert (scorer.calls, journal.writes) == ([10], [10])
        assert [answer.status for answer in answers] == [200] * 10
        alone = [asyncio.run(together(plane, [{"user_id": key, "gift": True}]))[0] for key in KEYS]
        assert [proba(answer) for answer in answers] == pytest.approx([proba(answer) for answer in alone], rel=1e-12)
    ids = [record["id"] for record in house.records()]
    assert len(set(ids)) == 20
    assert [int(each.rpartition("-")[2]) for each in ids] == list(range(1, 21))


def test_a_turn_is_bounded(house: House) -> None:
    with plane_of(house) as plane:
        scorer, journal = counted(plane)
        answers = asyncio.run(together(plane, [explicit(float(i)) for i in range(MOST * 2 + 3)]))
        assert scorer.calls == journal.writes == [MOST, MOST, 3]
        assert all(answer.status == 200 for answer in answers)


def test_a_row_that_cannot_be_scored_fails_alone(house: House) -> None:
    with plane_of(house) as plane:
        scorer, journal = counted(plane, poison=13.0)
        answers = asyncio.run(together(plane, [explicit(12.0), explicit(13.0), explicit(14.0)]))
        assert [answer.code for answer in answers] == ["ok", "scorer_unavailable", "ok"]
        assert scorer.calls == [3, 1, 1, 1]
        assert journal.writes == [2]
    assert len(house.records()) == 2


def test_a_row_at_which_a_compiled_model_fails_fails_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """What onnxruntime raises is no error of ours by its class."""
    with plane_of(house) as plane:
        champion = plane.fleet.champions["churn"]
        plane.fleet = replace(plane.fleet, champions={"churn": replace(champion, scorer=OnnxScorer(picky(13.0)))})
        answers = asyncio.run(together(plane, [explicit(12.0), explicit(13.0), explicit(14.0)]))
        assert [answer.code for answer in answers] == ["ok", "internal_error", "ok"]
        assert b"indices" not in answers[1].body
    assert "indices element out of data bounds" in caplog.text, "what it said is for whoever runs the server"
    assert len(house.records()) == 2


def test_two_versions_in_a_turn_answer_each_for_itself(house: House) -> None:
    house.add(2, bundle(-1.0))
    house.publish(2)
    with plane_of(house) as plane:
        bodies = [{**explicit(700.0), "model_version": 1 + i % 2} for i in range(6)]
        answers = asyncio.run(together(plane, bodies))
        assert [answer.headers["x-ecluse-version"] for answer in answers] == ["1", "2"] * 3
        by_version = [proba(answer) for answer in answers]
        assert by_version == pytest.approx(by_version[:2] * 3, rel=1e-12)
        assert by_version[0] > 0.9 > 0.1 > by_version[1]
    assert [record["version"] for record in house.records()] == [1, 2] * 3


def test_when_the_journal_refuses_nobody_in_the_turn_is_answered(house: House) -> None:
    with plane_of(house) as plane:
        plane.parts.journal.close()
        answers = asyncio.run(together(plane, [explicit(1.0), explicit(2.0)]))
        assert [answer.code for answer in answers] == ["log_unavailable"] * 2
    assert house.records() == []


def test_an_error_of_ours_is_told_to_each_of_the_turn(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with plane_of(house) as plane:
        champion = plane.fleet.champions["churn"]
        broken = type("Broken", (), {"score": lambda self, matrix: np.zeros((0, 1))})()
        plane.fleet = replace(plane.fleet, champions={"churn": replace(champion, scorer=broken)})
        answers = asyncio.run(together(plane, [explicit(1.0), explicit(2.0)]))
        assert [answer.code for answer in answers] == ["internal_error"] * 2
    assert "request failed" in caplog.text


def test_one_who_gives_up_does_not_end_the_turn(house: House) -> None:
    async def scenario(plane: Plane) -> Answer:
        application = Application(plane)
        gone = asyncio.create_task(ask(application, "POST", "/predict", explicit(1.0)))
        stays = asyncio.create_task(ask(application, "POST", "/predict", explicit(2.0)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    with plane_of(house) as plane:
        assert asyncio.run(scenario(plane)).status == 200


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 744), st.booleans()), min_size=1, max_size=9))
def test_whatever_comes_together_is_answered_as_alone(rows: list[tuple[float, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder, plane_of(ready_house(Path(folder))) as plane:
        bodies = [explicit(hours) if good else {"features": {}, "gift": True} for hours, good in rows]
        answers = asyncio.run(together(plane, bodies))
        alone = [asyncio.run(together(plane, [body]))[0] for body in bodies]
        assert [answer.code for answer in answers] == [answer.code for answer in alone]
        for one, other in zip(answers, alone, strict=True):
            assert one.code != "ok" or proba(one) == pytest.approx(proba(other), rel=1e-12)


def test_connections_that_ask_at_once_get_their_own_answers(house: House) -> None:
    """Over real sockets, where no task runs the requests; one of them is gone before its answer."""
    text = '{"user_id": "u%d", "gift": true}'
    with running(house) as worker:
        port = int(worker.url.rpartition(":")[2])
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for i, each in enumerate(connections):
            body = (text % (i % 10)).encode()
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            each.sendall((head + body) * 3)  # two of them wait their turn behind the first
        connections.pop(7).close()
        for i, each in enumerate(connections):
            heard, user = b"", (i if i < 7 else i + 1) % 10
            while heard.count(b'"prediction_id"') < 3 or not heard.endswith(b"}"):
                piece = each.recv(65_536)
                assert piece, heard
                heard += piece
            assert heard.count(b'"user_id":"u%d"' % user) == 3
            each.close()
        assert worker.stop() == 0
    assert len({record["id"] for record in house.records()}) == len(house.records())


def test_one_whose_next_request_is_late_already_does_not_cost_its_neighbours_their_answers(house: House) -> None:
    """Two requests and the head of a third nobody waits for any more, beside requests of others in the same turn."""
    body = b'{"user_id": "u1", "gift": true}'
    good = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    late = good.replace(b"Host", b"X-Request-Timeout-Ms: 0\r\nHost", 1)[: -len(body)]
    with running(house) as worker, contextlib.ExitStack() as opened:
        port = int(worker.url.rpartition(":")[2])
        for _ in range(20):
            strange, *others = (
                opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=2)) for _ in range(6)
            )
            strange.sendall(good + good + late)
            for each in others:
                each.sendall(good)
            for each in others:
                assert each.recv(65_536).startswith(b"HTTP/1.1 200")
            heard = b""
            while piece := strange.recv(65_536):
                heard += piece
            assert (heard.count(b"HTTP/1.1 200"), heard.count(b"HTTP/1.1 408")) == (2, 1)
        assert worker.stop() == 0
        assert "Traceback" not in worker.log.read_text()
