"""Webhook: one signed POST to one address, from which nobody is led elsewhere.

The name is resolved once, every address is judged, and the connection goes to that very address: what a name answers a moment later, or a
redirect, leads nowhere. Standard library only; TLS verifies the name as ever.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ecluse.core.errors import InvalidInput, NotAllowed, Unavailable
from ecluse.core.loop_settings import is_plain

MOST_ANSWER = 4_096
SIGNATURE, TIMESTAMP, EVENT = "Ecluse-Signature", "Ecluse-Timestamp", "Ecluse-Event"


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """``sha256=`` and the hex HMAC-SHA-256 of the timestamp, a dot, and the body: an old message cannot be sent again as a new one.

    >>> sign(b"{}", "1700000000", "s3cret")[:15]
    'sha256=97926816'
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, *, secret: str, event: str, private: bool = False, timeout: float = 5.0) -> int:
    """POST a JSON body; returns the status, which is one of success. ``event`` names the message, for receivers that had it before.

    ``private`` allows addresses that are not of the open internet. The whole call, from the name to the end of the answer, takes ``timeout``
    seconds at most. Raises InvalidInput (no address), NotAllowed (an address that is not allowed, a redirect), Unavailable.
    """
    deadline = time.monotonic() + timeout
    parts = _split(url)
    address = _address(parts, private, deadline)
    timestamp = str(int(time.time()))
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "ecluse",
        EVENT: event,
        TIMESTAMP: timestamp,
        SIGNATURE: sign(body, timestamp, secret),
    }
    try:
        status = _exchange(parts, address, body, headers, deadline)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"no answer: {error}", where=_named(parts), cure="see whether the receiver runs") from None
    if 300 <= status < 400:
        raise NotAllowed(f"it answers {status}, a redirect", where=_named(parts), cure="give the address itself")
    if status >= 400:
        raise Unavailable(f"it answers {status}", where=_named(parts), cure="see the receiver's log")
    return status


def _exchange(
    parts: SplitResult, address: tuple[str, int], body: bytes, headers: Mapping[str, str], deadline: float
) -> int:
    """Connect to the address that was judged, send, and read the status. Raises OSError, HTTPException."""
    with socket.create_connection(address, _left(deadline)) as plain:
        sock = plain
        if parts.scheme == "https":  # agrees on keys below, where time is bounded
            context = ssl.create_default_context()
            sock = context.wrap_socket(plain, server_hostname=parts.hostname, do_handshake_on_connect=False)
        with sock, _shut_at(sock, deadline):
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            connection.sock = sock
            path = parts.path or "/"
            connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body, headers)
            with connection.getresponse() as answer:
                answer.read(MOST_ANSWER)
                return answer.status


@contextmanager
def _shut_at(sock: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the socket at the deadline. Its own timeout bounds each wait only: a byte now and then would keep us for ever. Raises TimeoutError."""
    late = threading.Event()

    def shut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too, while it is read on the other thread

    timer = threading.Timer(_left(deadline), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if late.is_set():  # what was read until then may look like the end of an answer
            raise TimeoutError("not within the time given")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("not within the time given")
    return left


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if not is_plain(url) or parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise InvalidInput(
            "no address of a webhook",
            where="notify.url",
            cure="write https://host/path, without a user, everything but plain ASCII percent-encoded",
        )
    return parts


def _named(parts: SplitResult) -> str:
    """The address without its path, which may be a secret."""
    return f"{parts.scheme}://{parts.netloc}"


def _address(parts: SplitResult, private: bool, deadline: float) -> tuple[str, int]:
    """The first address of the name; every one must be allowed, or who answers for the name could choose."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = _resolve(parts.hostname or "", port, _left(deadline))
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"no such host: {error}", where=_named(parts), cure="check notify.url") from None
    addresses = [str(each[4][0]) for each in found]
    if not private and (refused := [each for each in addresses if not is_open(each)]):
        cure = "set private = true where a receiver in one's own network is meant"
        raise NotAllowed(f"{refused[0]} is not an address of the open internet", where=_named(parts), cure=cure)
    return addresses[0], port


def _resolve(host: str, port: int, seconds: float) -> list[Any]:
    """The addresses of a name. The resolver knows no timeout: it runs on a thread, which is left behind when the time is up."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised again by who waits
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("its name was not resolved in time") from None
    if isinstance(found, Exception):
        raise found
    return found


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
