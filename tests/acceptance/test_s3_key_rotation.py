"""S3: keys change under load. The next key is taken and the revoked one refused within five seconds by every worker; no request is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.serving.crew import BODIES, BOTH, fleet, until
from tests.serving.house import House, Worker, ready_house, running

from ecluse.core.access import KeyGrant, hash_key
from ecluse.testing.load import Traffic

SCRIPT = Path(__file__).with_name("careless_worker.py")
OLD, NEW = (KeyGrant(name, hash_key(f"ecl_{name}"), ("predict",)) for name in ("old", "new"))
BOUND = 5.0


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = ready_house(tmp_path)
    house.keys = (OLD,)
    house.publish(1)
    return house


def ask(connection: http.client.HTTPConnection, key: str) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer ecl_{key}"}
    connection.request("POST", "/predict", json.dumps(BODIES[1]), headers)
    with connection.getresponse() as response:
        return response.status, json.loads(response.read())


@contextlib.contextmanager
def doors(url: str, workers: tuple[str, ...]) -> Iterator[dict[str, http.client.HTTPConnection]]:
    """A kept connection to each worker."""
    opened: list[http.client.HTTPConnection] = []
    found: dict[str, http.client.HTTPConnection] = {}
    end = time.monotonic() + 20
    try:
        while set(found) != set(workers):
            assert time.monotonic() < end, f"only {set(found)} answer"
            opened.append(http.client.HTTPConnection(urlsplit(url).netloc, timeout=10))
            opened[-1].request("GET", "/health")
            with opened[-1].getresponse() as response:
                found[json.loads(response.read())["worker"]] = opened[-1]
        yield found
    finally:
        for connection in opened:
            connection.close()


def rotate(house: House, server: Worker, requests: int, workers: tuple[str, ...]) -> dict[str, float]:
    """Change old for new under load; seconds until every worker followed. Raises AssertionError for whatever must not be."""
    with doors(server.url, workers) as each:
        expected = {json.dumps(body): _proba(server, body) for body in BODIES}

        def check(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
            assert answer["proba"] == expected[json.dumps(body)]

        def status(key: str) -> set[int]:
            return {ask(connection, key)[0] for connection in each.values()}

        assert status("new") == {401}
        with Traffic(server.url, BODIES, key="ecl_old", check=check) as before:
            assert before.wait_for(requests // 4)
            house.keys = (OLD, NEW)
            house.publish(1)
            accepted = until("the new key is taken by all", lambda: status("new") == {200}, BOUND)
            with Traffic(server.url, BODIES, key="ecl_new", check=check) as after:
                assert before.wait_for(requests // 2), "both live at once"
                assert before.stop().failed == 0, before.counts.codes
                house.keys = (replace(OLD, expires=datetime.now(UTC), revoked=True), NEW)
                house.publish(1)
                refused = until("the old key is refused by all", lambda: status("old") == {401}, BOUND)
                assert after.wait_for(max(requests - before.counts.sent, requests // 4))
                assert status("old") == {401}, "for good"
        assert after.counts.failed == 0, after.counts.codes
        assert before.counts.sent + after.counts.sent >= requests
    return {"accepted": accepted, "refused": refused}


def _proba(server: Worker, body: Mapping[str, Any]) -> float:
    answer = server.call("POST", "/predict", body, {"Authorization": "Bearer ecl_old"})[2]
    return float(answer["proba"])


@pytest.mark.parametrize("requests", [400, pytest.param(2_000, marks=pytest.mark.nightly)])
def test_keys_change_under_load(house: House, requests: int) -> None:
    with fleet(house, poll_ms=200) as workers:  # as it is when nobody sets it
        print(rotate(house, workers, requests, BOTH))
        shown = workers.log.read_text() + str(house.records())
    assert len([record for record in house.records() if record["kind"] == "prediction"]) >= requests
    assert "ecl_" not in shown


@pytest.mark.parametrize(("defect", "told"), [("keeps its keys", "new key is taken"), ("forgets an end", "old key is")])
def test_a_worker_that_does_not_follow_is_found_out(
    house: House, monkeypatch: pytest.MonkeyPatch, defect: str, told: str
) -> None:
    monkeypatch.setattr("tests.acceptance.test_s3_key_rotation.BOUND", 0.6)  # it never will
    with (
        running(house, program=(str(SCRIPT), defect), poll_ms=50) as worker,
        pytest.raises(AssertionError, match=told),
    ):
        rotate(house, worker, 100, ("w1",))
