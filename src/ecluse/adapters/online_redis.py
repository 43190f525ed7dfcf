"""Port Online on Redis: what the control plane writes and looks up; the only importer of ``redis``. Workers read by ``online_redis_reads``.

A batch is staged in pieces under a name of its own, which nobody reads and which expires; then one script compares and applies all of it.
Redis runs a script alone: no reader sees half a batch, and a writer that dies before it leaves nothing. Needs Redis 6.2 or newer, one
primary: not a cluster.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ecluse.adapters.redis_layout import (
    CURE,
    FORMAT,
    format_key,
    moments_key,
    pack,
    read_address,
    unpack,
    view_key,
)
from ecluse.core.errors import Unavailable
from ecluse.core.ports import OnlineRow
from ecluse.core.settings import Stores

if TYPE_CHECKING:
    import redis

_STAGED_SECONDS = 3_600
_WRITER_WAITS_SECONDS = 30.0
_PIECE = 1_000
_APPLY = """
local rows, moments, format, staged = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local view, wanted, count, oldest, moment = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local found = redis.call('GET', format)
if found and found ~= wanted then return redis.error_reply('FORMAT ' .. found) end
if redis.call('LLEN', staged) ~= 2 * count then return redis.error_reply('STAGED rows are gone') end
if redis.call('TYPE', rows).ok ~= 'hash' and redis.call('EXISTS', rows) == 1 then
  return redis.error_reply('WRONGTYPE the view is no hash')
end
local function as_of(row)
  local read, got = pcall(cmsgpack.unpack, string.sub(row, 5))
  return read and type(got) == 'table' and tonumber(got[1]) or -math.huge
end
local newest = redis.call('HGET', moments, view)
local all_newer = not newest or tonumber(newest) < tonumber(oldest)
local written = 0
for _ = 1, math.ceil(count / 1000) do
  local piece = redis.call('LPOP', staged, 2000)
  local keys, put = {}, {}
  for i = 1, #piece, 2 do keys[#keys + 1] = piece[i] end
  local held = all_newer and {} or redis.call('HMGET', rows, unpack(keys))
  for i, key in ipairs(keys) do
    local old, new = held[i], piece[2 * i]
    if not old or (old ~= new and as_of(old) <= as_of(new)) then
      put[#put + 1] = key
      put[#put + 1] = new
    end
  end
  if #put > 0 then redis.call('HSET', rows, unpack(put)) end
  written = written + #put / 2
end
if not found then redis.call('SET', format, wanted) end
if count > 0 and (not newest or tonumber(newest) < tonumber(moment)) then redis.call('HSET', moments, view, moment) end
redis.call('DEL', staged)
return written
"""


class OnlineRedis:
    """Connects at the first use; safe from several threads and processes. Nothing is tried twice: a write can be run again as it is."""

    def __init__(self, stores: Stores, password: str = "") -> None:
        self.address, self._password = read_address(stores.online), password
        self._prefix, self._connect_seconds = stores.online_prefix, stores.online_connect_ms / 1_000

    def write(self, view: str, rows: Iterable[tuple[str, OnlineRow]]) -> tuple[int, int]:
        """See port Online. Redis answers nobody while the script runs: 1 µs a row, 3 where old and new must be compared. Raises Unavailable."""
        newest, given = _fold(rows)
        packed = [(key, pack(view, key, row)) for key, row in newest.items()]
        staged = f"{self._prefix}:staged:{secrets.token_hex(8)}".encode()
        moments = [row.as_of for row in newest.values()] or [0]
        keys = [view_key(self._prefix, view), moments_key(self._prefix), format_key(self._prefix), staged]
        with self._use() as client:
            for start in range(0, len(packed), _PIECE):
                pipe = client.pipeline(transaction=False)
                pipe.rpush(staged, *[part for row in packed[start : start + _PIECE] for part in row])
                pipe.expire(staged, _STAGED_SECONDS)
                pipe.execute()
            written = int(self._apply(keys=keys, args=[view, FORMAT, len(packed), min(moments), max(moments)]))
        return written, given - written

    def read(self, views: Sequence[str], key: str) -> Mapping[str, OnlineRow]:
        """See port Online. Raises Unavailable, Corrupt."""
        with self._use() as client:
            pipe = client.pipeline(transaction=False)
            for view in views:
                pipe.hget(view_key(self._prefix, view), key)
            found = pipe.execute()
        return {view: unpack(view, key, data) for view, data in zip(views, found, strict=True) if data is not None}

    def moment(self, view: str) -> int | None:
        """See port Online. Raises Unavailable."""
        with self._use() as client:
            found: Any = client.hget(moments_key(self._prefix), view)
        return None if found is None else int(found)

    def close(self) -> None:
        """Release the connections; the next use opens new ones."""
        if "_client" in self.__dict__:
            self._client.close()

    @functools.cached_property
    def _client(self) -> redis.Redis:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise Unavailable(f"Redis is not installed: {error}", cure="pip install 'ecluse[redis]'") from error
        return redis.Redis(
            host=self.address.host,
            port=self.address.port,
            db=self.address.database,
            username=self.address.user or None,
            password=self._password or None,
            ssl=self.address.tls,
            socket_connect_timeout=self._connect_seconds,
            socket_timeout=_WRITER_WAITS_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    @functools.cached_property
    def _apply(self) -> Any:
        return self._client.register_script(_APPLY)

    @contextmanager
    def _use(self) -> Iterator[redis.Redis]:
        client = self._client
        from redis.exceptions import RedisError

        try:
            yield client
        except (RedisError, OSError) as error:
            cure = CURE if str(error).startswith(("FORMAT", "WRONGTYPE")) else _AGAIN
            raise Unavailable(f"the online store: {error}", where=str(self.address), cure=cure) from error


_AGAIN = "see whether it runs, `stores.online` and ECLUSE_ONLINE_PASSWORD, then run it again: nothing was half-written"


def _fold(rows: Iterable[tuple[str, OnlineRow]]) -> tuple[dict[str, OnlineRow], int]:
    """The row of each key that wins among those given (the newest; the later of equals), and how many were given."""
    newest: dict[str, OnlineRow] = {}
    given = 0
    for key, row in rows:
        given += 1
        if key not in newest or row.as_of >= newest[key].as_of:
            newest[key] = row
    return newest, given
