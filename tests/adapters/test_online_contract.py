"""SQLite and Redis keep the contract of the online store."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.redis_server import RedisServer, redis_server

from ecluse.adapters.online_redis import OnlineRedis
from ecluse.adapters.online_redis_reads import OnlineRedisReads
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.testing.online_suite import OnlineSuite


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


class TestSqlite(OnlineSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[OnlineSqlite]:
        store = OnlineSqlite.open(tmp_path / "online.db")
        yield store
        store.close()

    @pytest.fixture
    def reads(self, tmp_path: Path) -> Iterator[OnlineSqlite]:
        store = OnlineSqlite.open(tmp_path / "online.db", read_only=True)
        yield store
        store.close()


class TestRedis(OnlineSuite):
    @pytest.fixture
    def store(self, server: RedisServer) -> Iterator[OnlineRedis]:
        server.client().flushall()
        store = OnlineRedis(server.stores())
        yield store
        store.close()

    @pytest.fixture
    def reads(self, server: RedisServer, runner: asyncio.Runner) -> Iterator[OnlineRedisReads]:
        server.client().flushall()
        reads = OnlineRedisReads(server.stores())
        yield reads
        runner.run(_closed(reads))


async def _closed(reads: OnlineRedisReads) -> None:
    reads.close()
    await asyncio.sleep(0)
