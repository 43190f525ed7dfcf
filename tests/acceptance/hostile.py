"""Callers who mean harm, in a process of their own so that they do not slow the callers who are measured: ``hostile.py URL SECONDS ROUNDS``.

ROUNDS times a second one request of every kind; meanwhile five connections send their head, and five their body, a byte at a time. Prints
as JSON how each kind was answered.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from urllib.parse import urlsplit

MEGABYTES = 10 * 2**20
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD = b'{"user_id":"u1","gift":true}'


def _whole(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _chunked(body: bytes) -> bytes:
    parts = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    return (
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)
        + b"0\r\n\r\n"
    )


KINDS: dict[str, bytes] = {
    "too late": _whole(GOOD, b"X-Request-Timeout-Ms: 0\r\n"),
    "10 MiB": _whole(b'{"user_id":"' + b"x" * MEGABYTES + b'"}'),
    "10 MiB in chunks": _chunked(b'{"user_id":"' + b"x" * MEGABYTES + b'"}'),
    "a length without a body": HEAD + b"Content-Length: 99999999999\r\n\r\n",
    "10,000 deep": _whole(b'{"user_id":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "a million features": _whole(b'{"features":{' + b",".join(b'"f%d":1' % i for i in range(1_000_000)) + b"}}"),
    "5,000 features": _whole(b'{"features":{' + b",".join(b'"f%d":1' % i for i in range(5_000)) + b"}}"),
    "NaN": _whole(b'{"user_id":"u1","gift":NaN}'),
    "Infinity": _whole(b'{"features":{"hours":Infinity}}'),
    "1e309": _whole(b'{"gift":true,"features":{"hours":1e309,"plan":"Gold","fee":1,"since":"2024-01-01"}}'),
    "a key twice": _whole(b'{"user_id":"u1","user_id":"u2","gift":true}'),
    "not UTF-8": _whole(b'{"user_id":"\xff"}'),
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
SLOW_HEAD, SLOW_BODY = "a head a byte at a time", "a body a byte at a time"


class Crowd:
    """What they send, until ``stop``, and how they are answered."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place = parts.hostname or "", parts.port or 80
        self.stop = threading.Event()
        self.told: dict[str, Counter[str]] = defaultdict(Counter)

    def ask(self, kind: str) -> None:
        """One request of a kind on a connection of its own."""
        with contextlib.suppress(OSError), socket.create_connection(self._place, timeout=10) as connection:
            with contextlib.suppress(OSError):  # refused before it was sent to the end
                connection.sendall(KINDS[kind])
            self._note(kind, connection)

    def drip(self, kind: str, data: bytes, begin: int) -> None:
        """The same request again and again, a byte at a time after its beginning."""
        while not self.stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(self._place, timeout=10) as connection:
                connection.sendall(data[:begin])
                connection.settimeout(0.05)
                for place in range(begin, len(data)):
                    if self.stop.is_set() or self._answered(kind, connection):
                        break
                    connection.sendall(data[place : place + 1])

    def _answered(self, kind: str, connection: socket.socket) -> bool:
        try:
            self._note(kind, connection)
        except TimeoutError:
            return False
        return True

    def _note(self, kind: str, connection: socket.socket) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            try:
                part = connection.recv(65_536)
            except ConnectionError:
                part = b""
            if not part:
                break
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        self.told[kind][f"{head[9:12].decode()} {json.loads(body)['code']}" if body else "closed"] += 1


def main(url: str, seconds: float, rounds: float) -> None:
    crowd, end = Crowd(url), time.monotonic() + seconds
    slow = [(SLOW_HEAD, HEAD + b"X-Filler: " + b"y" * 60_000, 20), (SLOW_BODY, _whole(b" " * 60_000), len(HEAD) + 30)]
    threads = [threading.Thread(target=crowd.drip, args=each) for each in slow for _ in range(5)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        for kind in KINDS:
            crowd.ask(kind)
            time.sleep(1 / rounds / len(KINDS))
    crowd.stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(crowd.told))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
