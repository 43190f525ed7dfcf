"""Who may call: API keys by their hashes, compared in constant time, their scopes; and the host names this server answers for."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ecluse.core.access import SCOPES, KeyGrant, hash_key
from ecluse.serving.problems import Refused

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - the addresses are compared with, not bound
EVERYBODY = KeyGrant("", "", tuple(SCOPES))
"""What a caller may where no key is asked for."""


def identify(headers: Mapping[bytes, bytes], grants: Sequence[KeyGrant], now: datetime) -> KeyGrant:
    """The grant of the key in ``Authorization: Bearer``. Raises Refused ``unauthorized``: no key, an unknown one, one that ended.

    >>> from datetime import UTC
    >>> grants = [KeyGrant("shop", hash_key("secret"), ("predict",))]
    >>> identify({b"authorization": b"Bearer secret"}, grants, datetime.now(UTC)).name
    'shop'
    """
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    shown = hash_key(key.strip())
    # every hash is compared, so that the time taken does not say which one came near
    matches = [grant for grant in grants if hmac.compare_digest(shown, grant.sha256)]
    if scheme.lower() != b"bearer" or not matches:
        raise Refused("unauthorized")
    if not matches[0].lives(now):
        word = "was revoked" if matches[0].revoked else "has expired"
        raise Refused("unauthorized", f"the API key {word}", cure="ask for another: `ecluse keys add`")
    return matches[0]


def demand(grant: KeyGrant, scope: str) -> None:
    """Raises Refused ``forbidden`` unless the key has the scope."""
    if scope not in grant.scopes:
        raise Refused("forbidden", f"the API key may not {SCOPES[scope]}", cure=f"use a key with the scope {scope}")


@dataclass(frozen=True)
class Hosts:
    """The host names a server bound to ``bound`` answers for, besides those ``declared``.

    A web page of another site can make a browser resolve its own name to this server; it cannot change the Host header. An address
    in digits is no such name, so a server bound to every address answers for all of those.
    """

    bound: str
    declared: Sequence[str] = ()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Refused ``host_not_allowed``; a request without the header comes from no browser and passes.

        One that shows two (RFC 9112, 3.2) comes from somebody who wants them to be read differently: ``invalid_request``.

        >>> Hosts("127.0.0.1", [".example.com"]).check({b"host": b"models.example.com:80"})
        >>> Hosts("127.0.0.1").check({b"host": b"localhost:8400"})
        """
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not host:
            return
        if "," in host:  # how a connection joins headers of one name
            raise Refused("invalid_request", "the request has more than one Host header")
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if not (self._own(name) or any(_fits(name, each.lower()) for each in self.declared)):
            raise Refused(
                "host_not_allowed", cure="use the address the server was bound to, or declare [serving] hosts"
            )

    def _own(self, name: str) -> bool:
        if name == self.bound.lower() or (name in LOOPBACK and self.bound in LOOPBACK | ANY):
            return True
        return self.bound in ANY and (_is_address(name) or name == socket.gethostname().lower())


def _fits(name: str, declared: str) -> bool:
    return name == declared or (declared.startswith(".") and name.endswith(declared))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
