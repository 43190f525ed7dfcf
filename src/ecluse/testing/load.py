"""Traffic for tests and the demo: keep-alive connections that send request after request, without retries, and count every answer."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0


@dataclass
class Counts:
    """What came of the requests so far. ``codes`` counts "ok", problem codes and the names of connection errors."""

    sent: int = 0
    failed: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def add(self, code: str, version: int | None, seconds: float) -> None:
        """One request that was answered, or not."""
        self.sent += 1
        self.failed += code != "ok"
        self.codes[code] += 1
        if version is not None:
            self.versions[version] += 1
        self.seconds.append(seconds)


class Traffic:
    """Sends ``bodies`` in turn to ``url`` over ``connections`` connections, from threads, until stopped; use it in a ``with`` block.

    ``rate`` limits requests a second over all connections. ``check`` is called with each request's body and 200 answer; what it
    raises counts as failed under the exception's name.
    """

    def __init__(
        self,
        url: str,
        bodies: Sequence[Mapping[str, Any]],
        *,
        connections: int = 4,
        path: str = "/predict",
        key: str = "",
        rate: float | None = None,
        check: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path, self._check = path, check
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._bodies = itertools.cycle([(body, json.dumps(body).encode()) for body in bodies])
        self._pause = connections / rate if rate else 0.0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]
        self.counts = Counts()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Counts:
        """Let every request under way be answered, then return the counts."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.counts

    def wait_for(self, sent: int, *, seconds: float = 60.0) -> bool:
        """Wait until so many requests were sent in all; False when that took too long."""
        end = time.monotonic() + seconds
        while self.counts.sent < sent and time.monotonic() < end:
            time.sleep(0.005)
        return self.counts.sent >= sent

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        while not self._stop.is_set():
            with self._lock:
                body, data = next(self._bodies)
            started = time.monotonic()
            code, version = self._send(connection, body, data)
            with self._lock:
                self.counts.add(code, version, time.monotonic() - started)
            if self._pause:
                self._stop.wait(max(0.0, self._pause - (time.monotonic() - started)))
        connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, body: Mapping[str, Any], data: bytes
    ) -> tuple[str, int | None]:
        try:
            connection.request("POST", self._path, data, self._headers)
            with connection.getresponse() as response:
                answer = json.loads(response.read())
            if response.status != 200:
                return str(answer.get("code", response.status)), None
            if self._check is not None:
                self._check(body, answer)
            return "ok", answer.get("version")
        except Exception as error:  # noqa: BLE001 - whatever a lost connection or a wrong answer raises is what is being counted
            connection.close()
            return type(error).__name__, None
