"""Who may call: API keys by their hashes, compared in constant time, and the host names this server answers for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from ecluse.serving.problems import Refused

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_key(headers: Mapping[bytes, bytes], keys_sha256: Sequence[str]) -> None:
    """Raises Refused ``unauthorized`` unless ``Authorization: Bearer`` holds a key with one of these SHA-256 hashes (hex).

    >>> check_key({b"authorization": b"Bearer secret"}, [hashlib.sha256(b"secret").hexdigest()])
    """
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    shown = hashlib.sha256(key.strip()).hexdigest()
    # every hash is compared, so that the time taken does not say which one came near
    matches = [hmac.compare_digest(shown, each) for each in keys_sha256]
    if scheme.lower() != b"bearer" or not any(matches):
        raise Refused("unauthorized")


def check_host(headers: Mapping[bytes, bytes], bound: str) -> None:
    """Raises Refused ``host_not_allowed`` when a server bound to this machine alone is called by another name.

    A web page of another site can make a browser here resolve its own name to 127.0.0.1; it cannot change the Host header.

    >>> check_host({b"host": b"localhost:8400"}, "127.0.0.1")
    """
    host = headers.get(b"host", b"").decode("latin-1").lower()
    if bound not in LOOPBACK or not host:
        return
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name not in LOOPBACK:
        raise Refused("host_not_allowed", "this server is bound to this machine alone")
