"""How the online store lies in Redis, for its writer and its readers: names of keys, bytes of a row, the address.

``<prefix>:view:<view>`` is a hash, entity key → row; ``<prefix>:moments`` a hash, view → newest as-of in microseconds;
``<prefix>:format`` the number of this layout. A row is a CRC-32 (4 bytes, big-endian) over view, key and payload, then the payload:
msgpack ``[as_of, event, values]``. The checksum names whose row it is: a reply that got out of step is never taken for another entity's.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import msgspec

from ecluse.core.errors import Corrupt, DeclarationError
from ecluse.core.expression import Value
from ecluse.core.ports import OnlineRow

FORMAT = 1
SCHEMES = ("redis", "rediss")
CURE = "fill it with `ecluse materialize`: it holds nothing that cannot be computed again"


class _Row(msgspec.Struct, array_like=True):
    as_of: int
    event: int | None
    values: dict[str, bool | int | float | str | None]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


@dataclass(frozen=True)
class Address:
    """A Redis database: where, over TLS or not, and as whom."""

    host: str
    port: int
    database: int
    tls: bool
    user: str

    def __str__(self) -> str:
        return f"redis{'s' if self.tls else ''}://{self.host}:{self.port}/{self.database}"


def read_address(text: str) -> Address:
    """``redis[s]://[user@]host[:port][/database]``. Raises DeclarationError.

    >>> str(read_address("rediss://worker@cache/2"))
    'rediss://cache:6379/2'
    """
    cure = "write redis://host:6379/0, or rediss:// for TLS, or leave it empty for a file"
    try:
        parts = urlsplit(text)
        port, database = parts.port or 6379, int(parts.path.strip("/") or "0")
    except ValueError:
        raise DeclarationError("the online store's address cannot be read", where="stores.online", cure=cure) from None
    if parts.password is not None:  # files and command lines are read by many
        cure = "put it in the environment as ECLUSE_ONLINE_PASSWORD"
        raise DeclarationError("the online store's address holds a password", where="stores.online", cure=cure)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.query or parts.fragment or database < 0:
        raise DeclarationError(f"`{text}` is no online store", where="stores.online", cure=cure)
    return Address(parts.hostname, port, database, parts.scheme == "rediss", unquote(parts.username or ""))


def view_key(prefix: str, view: str) -> bytes:
    """The key of a view's rows."""
    return f"{prefix}:view:{view}".encode()


def moments_key(prefix: str) -> bytes:
    """The key of the views' newest moments."""
    return f"{prefix}:moments".encode()


def format_key(prefix: str) -> bytes:
    """The key of the layout's number."""
    return f"{prefix}:format".encode()


def pack(view: str, key: str, row: OnlineRow) -> bytes:
    """A row's bytes."""
    payload = _encode((row.as_of, row.event, row.values))
    return _checksum(view, key, payload).to_bytes(4, "big") + payload


def unpack(view: str, key: str, data: object) -> OnlineRow:
    """The row of these bytes. Raises Corrupt when they are not this view's of this key, or no bytes at all."""
    payload = data[4:] if isinstance(data, bytes) else b""
    if not isinstance(data, bytes) or int.from_bytes(data[:4], "big") != _checksum(view, key, payload):
        raise Corrupt("a row of the online store is not what was written", where=f"view {view}", cure=CURE)
    try:
        row = _decode(payload)
    except msgspec.MsgspecError:
        raise Corrupt("a row of the online store cannot be read", where=f"view {view}", cure=CURE) from None
    values: dict[str, Value] = row.values
    return OnlineRow(values, row.as_of, row.event)


def _checksum(view: str, key: str, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(f"{view}\0{key}\0".encode()))
