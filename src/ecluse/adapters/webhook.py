"""Webhook: one signed POST to one address, from which nobody is led elsewhere.

The name is resolved once, every address is judged, and the connection goes to that very address: what a name answers a moment later, or a
redirect, leads nowhere. Standard library only; TLS verifies the name as ever.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import SplitResult, urlsplit

from ecluse.core.errors import InvalidInput, NotAllowed, Unavailable

MOST_ANSWER = 4_096
SIGNATURE, TIMESTAMP, EVENT = "Ecluse-Signature", "Ecluse-Timestamp", "Ecluse-Event"


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """``sha256=`` and the hex HMAC-SHA-256 of the timestamp, a dot, and the body: an old message cannot be sent again as a new one.

    >>> sign(b"{}", "1700000000", "s3cret")[:15]
    'sha256=97926816'
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, *, secret: str, event: str, private: bool = False, timeout: float = 5.0) -> int:
    """POST a JSON body; returns the status, which is one of success. ``event`` names it for receivers that got it before.

    ``private`` allows addresses that are not of the open internet. The whole call takes ``timeout`` seconds at most for each of connecting
    and every wait. Raises InvalidInput (no address), NotAllowed (an address that is not allowed, a redirect), Unavailable.
    """
    parts = _split(url)
    address = _address(parts, private, timeout)
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ecluse",
        EVENT: event,
        TIMESTAMP: timestamp,
        SIGNATURE: sign(body, timestamp, secret),
    }
    connection = _connection(parts, address, timeout)
    try:
        path = parts.path or "/"
        connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body, headers)
        answer = connection.getresponse()
        answer.read(MOST_ANSWER)
        status = answer.status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"no answer: {error}", where=_named(parts), cure="see whether the receiver runs") from None
    finally:
        connection.close()
    if 300 <= status < 400:
        raise NotAllowed(f"it answers {status}, a redirect", where=_named(parts), cure="give the address itself")
    if status >= 400:
        raise Unavailable(f"it answers {status}", where=_named(parts), cure="see the receiver's log")
    return status


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise InvalidInput(
            "no address of a webhook", where="notify.url", cure="write https://host/path, without a user"
        )
    return parts


def _named(parts: SplitResult) -> str:
    """The address without its path, which may be a secret."""
    return f"{parts.scheme}://{parts.netloc}"


def _address(parts: SplitResult, private: bool, timeout: float) -> tuple[str, int]:
    """The first address of the name; every one must be allowed, or who answers for the name could choose."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"no such host: {error}", where=_named(parts), cure="check notify.url") from None
    addresses = [str(each[4][0]) for each in found]
    if not private and (refused := [each for each in addresses if not is_open(each)]):
        cure = "set private = true where a receiver in one's own network is meant"
        raise NotAllowed(f"{refused[0]} is not an address of the open internet", where=_named(parts), cure=cure)
    return addresses[0], port


def is_open(address: str) -> bool:
    """Whether an address is one of the open internet: not of this machine, a private network, a link, a group, or a tunnel to those.

    >>> [
    ...     is_open(each)
    ...     for each in (
    ...         "93.184.215.14",
    ...         "10.0.0.1",
    ...         "127.0.0.1",
    ...         "169.254.169.254",
    ...         "::ffff:10.0.0.1",
    ...         "64:ff9b::a00:1",
    ...     )
    ... ]
    [True, False, False, False, False, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found in _TRANSLATED:
            return False
        found = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None) or found
    return found.is_global and not found.is_multicast


_TRANSLATED = ipaddress.ip_network("64:ff9b::/32")
"""IPv4 behind a translator, whichever."""


def _connection(parts: SplitResult, address: tuple[str, int], timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return _Plain(host, parts.port, address, timeout)
    return _Secure(host, parts.port, address, timeout)


class _Plain(http.client.HTTPConnection):
    """Connects to the address that was judged."""

    def __init__(self, host: str, port: int | None, address: tuple[str, int], timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._judged = address

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.create_connection(self._judged, self.timeout)


class _Secure(http.client.HTTPSConnection):
    """The same, and the certificate must be of the name."""

    def __init__(self, host: str, port: int | None, address: tuple[str, int], timeout: float) -> None:
        self._trusted = ssl.create_default_context()
        super().__init__(host, port, timeout=timeout, context=self._trusted)
        self._judged = address

    def connect(self) -> None:
        """Open the socket and agree on keys."""
        plain = socket.create_connection(self._judged, self.timeout)
        try:
            self.sock = self._trusted.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise
