"""V7: an online store that fails in any way never becomes a default in silence; the failure is bounded, said, and over when it is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.redis_server import RedisServer, redis_server
from tests.serving.house import JANUARY, House, Worker, ready_house, running

from ecluse.adapters.online_redis import OnlineRedis
from ecluse.core.codec import canonical
from ecluse.core.instants import to_micros
from ecluse.core.ports import OnlineRow
from ecluse.testing.faults import FAULTS, FaultProxy

READ_MS = 50
USERS = [f"u{i}" for i in range(10)]
TOLD = ("proba", "decision", "as_of", "moments", "unseen", "degraded")


@dataclass
class Seen:
    """What came of the requests while a fault lasted."""

    reference: Mapping[str, Any]
    codes: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, user: str, status: int, answer: Mapping[str, Any], seconds: float) -> None:
        """A 200 must be the very answer of a store that works; anything else must say that it does not."""
        code = "ok" if status == 200 else answer["code"]
        self.codes[code] = self.codes.get(code, 0) + 1
        self.seconds.append(seconds)
        if status == 200:
            assert told(answer) == self.reference[user], "a default in silence"
        else:
            assert (status, code) == (503, "feature_store_unavailable"), answer


def told(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in TOLD}


def ask(worker: Worker, seen: Seen, times: int) -> None:
    for i in range(times):
        user = USERS[i % len(USERS)]
        began = time.perf_counter()
        status, answer = worker.predict(user)
        seen.add(user, status, answer, time.perf_counter() - began)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running_:
        yield running_


def fill(server: RedisServer, **changed: Any) -> None:
    """The rows that `ready_house` has in its file; ``u9`` has no profile, which the model declares it can do without."""
    store, at = OnlineRedis(server.stores()), to_micros(changed.get("moment", JANUARY))
    profile: dict[str, Any] = {"plan": "Gold", "fee": 9.5, "since": at - 86_400_000_000 * 100}
    store.write("usage", [(user, OnlineRow({"hours": 70.0 * i}, at, at)) for i, user in enumerate(USERS)])
    store.write("profile", [(user, OnlineRow(profile, at, at)) for user in USERS[:-1]])
    store.close()


@contextmanager
def worker_of(house: House, server: RedisServer, port: int) -> Iterator[Worker]:
    stores = server.stores(port=port, read_ms=READ_MS)
    with running(house, "--stores", canonical(stores).decode()) as worker:
        yield worker


@pytest.fixture
def house(tmp_path: Path, server: RedisServer) -> House:
    server.client().flushall()
    fill(server)
    house = ready_house(tmp_path)
    for path in house.home.glob("online.db*"):
        path.unlink()
    return house


def closed_within(worker: Worker, seconds: float) -> float:
    began = time.monotonic()
    worker.wait("the store answers again", lambda health: health["online"]["answers"], seconds)
    assert worker.predict()[0] == 200
    return time.monotonic() - began


def check(worker: Worker, begin: Callable[[], None], end: Callable[[], None]) -> Seen:
    """Reference answers, the fault, its end."""
    reference = {user: told(worker.predict(user)[1]) for user in USERS}
    assert len({str(each) for each in reference.values()}) == len(USERS)
    assert reference["u9"]["degraded"], "declared, and said"
    seen = Seen(reference)
    begin()
    ask(worker, seen, 15)
    assert seen.codes.get("feature_store_unavailable", 0) >= 5, seen.codes
    assert worker.call("GET", "/ready")[0] == 200, "the pool is not emptied"
    health = worker.health()
    assert (health["status"], health["online"]["answers"]) == ("degraded", False)
    assert "ecluse_online_answers 0.0" in worker.call("GET", "/metrics")[2]
    ask(worker, seen, 10)
    assert sorted(seen.seconds)[len(seen.seconds) // 2] < 1.0
    end()
    closed_within(worker, 10)
    calm = Seen(reference)
    ask(worker, calm, 10)
    assert calm.codes == {"ok": 10}
    return seen


@pytest.mark.parametrize("fault", FAULTS)
def test_a_network_that_fails(house: House, server: RedisServer, fault: Any) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy, worker_of(house, server, proxy.port) as worker:
        seen = check(worker, lambda: setattr(proxy, "fault", fault), lambda: setattr(proxy, "fault", "pass"))
        print(fault, seen.codes, [f"{1_000 * each:.1f}" for each in seen.seconds])


def test_a_server_that_hangs(house: House, server: RedisServer) -> None:
    with worker_of(house, server, server.port) as worker:
        check(worker, lambda: server.send(signal.SIGSTOP), lambda: server.send(signal.SIGCONT))


def test_a_server_that_dies_and_comes_back_with_nothing(house: House, tmp_path: Path) -> None:
    with redis_server(tmp_path) as own:
        fill(own)

        def again() -> None:
            own.start()
            fill(own)

        with worker_of(house, own, own.port) as worker:
            check(worker, own.stop, again)
            own.client().flushall()
            status, answer = worker.predict()
            assert (status, answer["code"]) == (503, "feature_store_unavailable"), "an empty store knows nobody"


def test_before_the_first_answer_it_is_not_ready(house: House, server: RedisServer) -> None:
    server.client().flushall()
    stores = canonical(server.stores()).decode()
    with running(house, "--stores", stores, wait=False) as worker:
        worker.wait("it says why", lambda health: health["status"] == "feature_store_unavailable")
        assert worker.call("GET", "/ready")[2]["code"] == "feature_store_unavailable"
        fill(server)
        worker.wait("ready", lambda health: health["status"] == "ok")
        assert worker.predict()[0] == 200


def test_features_older_than_their_time_to_live(house: House, server: RedisServer) -> None:
    house.now = JANUARY + timedelta(days=46)  # usage: 45 days, refuse; profile: none
    house.publish(1)
    with worker_of(house, server, server.port) as worker:
        status, answer = worker.predict()
        assert (status, answer["code"], answer["field"]) == (503, "feature_stale", "hours")
        fill(server, moment=house.now)
        status, answer = worker.predict()
        assert (status, answer["as_of"][:10]) == (200, house.now.date().isoformat())


def test_the_judge_sees_a_default(house: House, server: RedisServer) -> None:
    """The planted defect: what `except: features = 0` would answer does not pass for an answer."""
    with worker_of(house, server, server.port) as worker:
        answer = worker.predict("u3")[1]
        nought = worker.call(
            "POST",
            "/predict",
            {"features": dict.fromkeys(("hours", "fee"), 0.0) | {"plan": "Basic", "since": "2024-01-31", "gift": True}},
        )[2]
    with pytest.raises(AssertionError, match="in silence"):
        Seen({"u3": told(answer)}).add("u3", 200, answer | {"proba": nought["proba"]}, 0.0)
