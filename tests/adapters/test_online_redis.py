"""Redis as online store: what is whole, whose row it is, and what a worker hears of a store in trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from tests.adapters.redis_server import RedisServer, redis_server

from ecluse.adapters.online import open_online, open_reads, resolved
from ecluse.adapters.online_redis import OnlineRedis
from ecluse.adapters.online_redis_reads import FAILURES, REST_SECONDS, OnlineRedisReads
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.adapters.redis_layout import pack, read_address
from ecluse.core.errors import Corrupt, DeclarationError, Unavailable
from ecluse.core.ports import OnlineRow
from ecluse.core.settings import Settings, Stores
from ecluse.testing.faults import FaultProxy

T = TypeVar("T")
ROW = OnlineRow({"hours": 1.5, "plan": "Gold"}, 10, 7)
PREFIX = "ecluse:test:dev"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def store(server: RedisServer) -> Iterator[OnlineRedis]:
    server.client().flushall()
    store = OnlineRedis(server.stores())
    yield store
    store.close()


def asking(stores: Stores, ask: Callable[[OnlineRedisReads], Awaitable[T]], password: str = "") -> T:
    """What ``ask`` makes of a worker's reads, on a loop of its own."""

    async def run() -> T:
        reads = OnlineRedisReads(stores, password)
        try:
            return await ask(reads)
        finally:
            reads.close()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as in the worker
        return runner.run(run())


async def problem(reads: OnlineRedisReads, key: str = "1") -> str:
    with pytest.raises((Unavailable, Corrupt)) as caught:
        await reads.fetch(["v"], key)
    return caught.value.what


# -- the settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["memcached://a", "redis://", "redis://h/x", "redis://h:x", "redis://h/0?db=1", "h:1"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(DeclarationError, match=r"redis://host:6379/0"):
        read_address(text)


def test_a_password_belongs_in_the_environment() -> None:
    with pytest.raises(DeclarationError, match="ECLUSE_ONLINE_PASSWORD") as caught:
        read_address("redis://ana:secret@cache")
    assert "secret" not in str(caught.value)


def test_settings_choose_the_store(tmp_path: Path) -> None:
    assert isinstance(open_online(tmp_path, Stores()), OnlineSqlite)
    assert isinstance(open_reads(tmp_path, Stores()), OnlineSqlite)
    settings = Settings(project="water", profile="prod", stores=Stores("redis://cache"))
    assert resolved(settings).online_prefix == "ecluse:water:prod"
    assert isinstance(open_online(tmp_path, resolved(settings)), OnlineRedis)
    assert isinstance(open_reads(tmp_path, resolved(settings)), OnlineRedisReads)
    assert resolved(Settings(stores=Stores(online_prefix="mine"))).online_prefix == "mine"
    with pytest.raises(DeclarationError, match="1 ms"):
        Stores(online_read_ms=0)


def test_two_projects_share_one_redis(server: RedisServer, store: OnlineRedis) -> None:
    other = OnlineRedis(server.stores(prefix="ecluse:other:dev"))
    store.write("v", [("1", ROW)])
    assert other.read(["v"], "1") == {}
    assert other.moment("v") is None
    other.close()


def test_password_and_database(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "open sesame") as locked:
        stores = Stores(f"redis://127.0.0.1:{locked.port}/3", PREFIX, online_read_ms=1_000)
        writer = OnlineRedis(stores, "open sesame")
        writer.write("v", [("1", ROW)])
        assert asking(stores, lambda reads: reads.fetch(["v"], "1"), "open sesame") == {"v": ROW}
        for password in ("", "wrong"):
            assert "wrong" not in asking(stores, problem, password).replace("WRONGPASS", "")
            with pytest.raises(Unavailable, match="ECLUSE_ONLINE_PASSWORD"):
                OnlineRedis(stores, password).write("v", [("1", ROW)])
        writer.close()


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_nobody_sees_half_a_batch(server: RedisServer, store: OnlineRedis) -> None:
    keys, done = [str(i) for i in range(5_000)], threading.Event()

    def write() -> None:
        for moment in range(1, 9):
            store.write("v", [(key, OnlineRow({"x": moment}, moment, None)) for key in keys])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    client, seen = server.client(), set()
    while not done.is_set():
        first, last = (found and found[4:] for found in client.hmget(f"{PREFIX}:view:v", ["0", "4999"]))
        assert first == last
        seen.add(first)
    writer.join()
    assert len(seen) > 1, "it read while it was written"


KILLED = """
import os, signal, sys
from ecluse.adapters.online_redis import OnlineRedis
from ecluse.core.ports import OnlineRow
from ecluse.core.settings import Stores

class Dies(OnlineRedis):
    @property
    def _apply(self):
        os.kill(os.getpid(), signal.SIGKILL)

Dies(Stores(sys.argv[1], sys.argv[2])).write("v", [(str(n), OnlineRow({"x": 2.0}, 20, None)) for n in range(3_000)])
"""


def test_a_writer_killed_before_the_end_leaves_the_old_values(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [(str(n), ROW) for n in range(3_000)])
    command = [sys.executable, "-c", KILLED, server.stores().online, PREFIX]
    done = subprocess.run(command, capture_output=True, timeout=60, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert all(store.read(["v"], str(n)) == {"v": ROW} for n in range(0, 3_000, 100))
    assert store.moment("v") == 10
    (staged,) = server.client().keys(f"{PREFIX}:staged:*")
    assert 0 < int(server.client().ttl(staged)) <= 3_600, "what it left behind goes by itself"


def test_a_full_store_is_said_and_keeps_the_old_values(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW)])
    client = server.client()
    client.config_set("maxmemory", 1_000_000)
    try:
        with pytest.raises(Unavailable, match="maxmemory"):
            store.write("v", [(str(n), OnlineRow({"x": "y" * 500}, 11, None)) for n in range(5_000)])
        assert store.read(["v"], "1") == {"v": ROW}
        assert store.read(["v"], "2") == {}
    finally:
        client.config_set("maxmemory", 0)


def test_a_damaged_row_is_replaced_by_the_next_write(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW)])
    server.client().hset(f"{PREFIX}:view:v", "1", b"\xc1\xc1")
    assert store.write("v", [("1", ROW)]) == (1, 0)
    assert store.read(["v"], "1") == {"v": ROW}


def test_another_format_is_refused_by_both_sides(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW)])
    server.client().set(f"{PREFIX}:format", "99")
    with pytest.raises(Unavailable, match="FORMAT 99"):
        store.write("v", [("1", ROW)])
    assert "format 99" in asking(server.stores(), lambda reads: problem(reads, "nobody"))


# -- never another's, never made up -----------------------------------------------------------------------------------


def test_a_row_of_another_key_or_view_is_corrupt(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW), ("2", ROW)])
    store.write("w", [("1", ROW)])
    client = server.client()
    spoiled = bytearray(pack("v", "1", ROW))
    spoiled[-1] ^= 1
    for planted in (pack("v", "2", ROW), pack("w", "1", ROW), bytes(spoiled), b"", b"abc"):
        client.hset(f"{PREFIX}:view:v", "1", planted)
        assert "not what was written" in asking(server.stores(), problem)
        with pytest.raises(Corrupt):
            store.read(["v"], "1")


def test_a_store_that_lost_everything_knows_nobody_and_says_so(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW)])

    async def ask(reads: OnlineRedisReads) -> str:
        assert await reads.fetch(["v"], "1") == {"v": ROW}
        assert await reads.fetch(["v"], "2") == {}
        server.client().flushall()
        return await problem(reads)

    assert asking(server.stores(), ask) == "the online store is empty"


def test_a_late_answer_is_nobodys(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [(str(i), OnlineRow({"x": i}, 10, None)) for i in range(10)])

    async def ask(reads: OnlineRedisReads) -> Any:
        await reads.fetch(["v"], "0")
        server.send(signal.SIGSTOP)
        assert "did not answer within 50 ms" in await problem(reads)
        server.send(signal.SIGCONT)
        return [(await reads.fetch(["v"], str(i)))["v"].values["x"] for i in range(10)]

    assert asking(server.stores(read_ms=50), ask) == list(range(10))


def test_a_caller_that_went_away_disturbs_nobody(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [(str(i), OnlineRow({"x": i}, 10, None)) for i in range(40)])

    async def ask(reads: OnlineRedisReads) -> Any:
        tasks = [asyncio.ensure_future(reads.fetch(["v"], str(i))) for i in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [rows["v"].values["x"] for rows in found if isinstance(rows, dict)]

    assert asking(server.stores(), ask) == list(range(1, 40, 2))


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_store_that_hangs_does_not_hold_up_the_loop(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW)])

    async def ask(reads: OnlineRedisReads) -> int:
        await reads.fetch(["v"], "1")
        server.send(signal.SIGSTOP)
        waiting, turns = asyncio.ensure_future(problem(reads)), 0
        while not waiting.done():
            await asyncio.sleep(0.001)
            turns += 1
        server.send(signal.SIGCONT)
        return turns

    assert asking(server.stores(read_ms=200), ask) > 20


def test_the_circuit_opens_and_closes_again(server: RedisServer, store: OnlineRedis) -> None:
    store.write("v", [("1", ROW)])

    async def ask(reads: OnlineRedisReads, proxy: FaultProxy) -> None:
        assert await reads.fetch(["v"], "1") == {"v": ROW}
        proxy.fault = "blackhole"
        for _ in range(FAILURES):
            assert "did not answer" in await problem(reads)
        assert "left alone" in await problem(reads)
        proxy.fault = "pass"
        assert "left alone" in await problem(reads)
        await asyncio.sleep(REST_SECONDS)
        assert await reads.fetch(["v"], "1") == {"v": ROW}
        assert await reads.fetch(["v"], "1") == {"v": ROW}

    with FaultProxy("127.0.0.1", server.port) as proxy:
        asking(server.stores(port=proxy.port, read_ms=50), lambda reads: ask(reads, proxy))


def test_a_restarted_store_is_found_again(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        stores = server.stores()
        OnlineRedis(stores).write("v", [("1", ROW)])

        async def ask(reads: OnlineRedisReads) -> None:
            assert await reads.fetch(["v"], "1") == {"v": ROW}
            server.stop()
            assert await problem(reads)
            server.start()
            assert (
                await problem(reads) == "the online store is empty"
            )  # it kept nothing, and that is not "unknown entity"
            again = OnlineRedis(stores)
            await asyncio.to_thread(again.write, "v", [("1", ROW)])
            assert await reads.fetch(["v"], "1") == {"v": ROW}
            again.close()

        asking(stores, ask)


def test_a_write_to_a_store_that_is_not_there(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        stores = server.stores()
        server.stop()
        with pytest.raises(Unavailable, match="half-written"):
            OnlineRedis(stores).write("v", [("1", ROW)])


def test_the_worker_does_not_load_what_the_writer_needs() -> None:
    code = (
        "import sys, ecluse.adapters.online_redis_reads; print(sorted({'polars', 'numpy', 'redis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
