"""A small typed client of a worker: kept connections, one deadline for each call, no hidden retries. Standard library only.

>>> client = Client("http://127.0.0.1:8400", key="…", timeout=0.5)  # doctest: +SKIP
>>> client.predict({"user_id": "u1", "gift": True}).score  # doctest: +SKIP
0.31
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import select
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from ecluse.core.errors import Corrupt, EcluseError, InvalidInput, Unavailable

TIMEOUT = 5.0
_CHUNK = 65_536
_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,128}")


@dataclass(frozen=True)
class Answer:
    """A prediction. ``score`` is the positive class's probability, the best class's, or the value.

    ``entity`` holds the key columns; ``probabilities`` every class of a multi-class model; instants are aware; ``moments`` per view what its
    values were computed as of; ``unseen`` names inputs never seen in training, ``degraded`` views answered without.
    """

    entity: Mapping[str, str | int]
    prediction_id: str
    request_id: str
    model: str
    version: int
    score: float
    probabilities: Mapping[str, float] | None
    threshold: float | None
    decision: bool | str | None
    as_of: datetime
    moments: Mapping[str, datetime]
    timestamp: datetime
    unseen: tuple[str, ...]
    degraded: tuple[str, ...]


class Problem(EcluseError):
    """The server's "no": ``code`` is stable, ``status`` HTTP's, ``field`` the culprit, ``retry_after`` seconds where waiting may help."""

    def __init__(self, facts: Mapping[str, Any], *, status: int, retry_after: float | None = None) -> None:
        self.status, self.retry_after = status, retry_after
        self.code = str(facts.get("code", f"http_{status}"))
        self.field: str | None = facts.get("field")
        self.request_id = str(facts.get("request_id", ""))
        super().__init__(
            str(facts.get("detail", f"HTTP status {status}")), where=self.code, cure=str(facts.get("cure", ""))
        )


class Client:
    """A client of one worker, or of what stands before several. Threads may share it; each uses a connection of its own.

    ``timeout`` is the deadline of a whole call in seconds (looking up the host's name excepted); the server is told and stops by then.
    Every method raises Problem when the server refuses, Unavailable when no answer came (the message says under which request id the
    prediction may stand in the journal all the same), InvalidInput for what is no JSON, Corrupt for an answer that is none of a worker's.
    Nothing is sent twice.
    """

    def __init__(self, url: str, *, key: str = "", timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"{url!r} is no http or https address", where="client", cure="give http://host:port")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._base, self._timeout, self._key = parts.path.rstrip("/"), timeout, key
        self._idle: list[_Connection] = []

    def predict(
        self, request: Mapping[str, object], *, model: str | None = None, timeout: float | None = None
    ) -> Answer:
        """One prediction: ``{"user_id": "u1", …}`` or ``{"features": {…}, …}``, as ``POST /predict`` takes it."""
        return _answer(self._ask("POST", _path(model, "predict"), request, timeout, request.get("request_id")))

    def predict_batch(
        self,
        rows: Sequence[Mapping[str, object]],
        *,
        model: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> tuple[Answer | Problem, ...]:
        """A prediction for each row, or the Problem it was refused with, in its place."""
        body = {"instances": list(rows)} | ({"request_id": request_id} if request_id else {})
        found = self._ask("POST", _path(model, "predict/batch"), body, timeout, request_id)
        results = found.get("results") if isinstance(found, dict) else None
        if not isinstance(results, list) or len(results) != len(rows):
            raise _not_ours(found)
        return tuple(
            _answer(each) if isinstance(each, dict) and each.get("status") == 200 else _row_problem(each)
            for each in results
        )

    def outcomes(
        self, outcomes: Sequence[Mapping[str, object]], *, model: str | None = None, timeout: float | None = None
    ) -> int:
        """Tell what came true; how many were kept: all of them, or a Problem."""
        found = self._ask("POST", _path(model, "outcomes"), list(outcomes), timeout, None)
        if not isinstance(found, dict) or not isinstance(found.get("accepted"), int):
            raise _not_ours(found)
        return int(found["accepted"])

    def ready(self, *, timeout: float | None = None) -> bool:
        """Whether the worker wants traffic. Raises Unavailable when it does not answer."""
        try:
            self._ask("GET", "/ready", None, timeout, None)
        except Problem as problem:
            if problem.status == 503:
                return False
            raise
        return True

    def models(self, *, timeout: float | None = None) -> Mapping[str, Any]:
        """Every model: its champion, the version that answers, warm versions."""
        found = self._ask("GET", "/models", None, timeout, None)
        if not isinstance(found, dict) or not isinstance(found.get("models"), dict):
            raise _not_ours(found)
        models: dict[str, Any] = found["models"]
        return models

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, value: object, timeout: float | None, request_id: object) -> Any:
        seconds = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        name = request_id if isinstance(request_id, str) else secrets.token_hex(16)
        body = None if value is None else _encode(value)
        headers = {"X-Request-Timeout-Ms": str(max(1, int(seconds * 1_000)))}
        headers |= {"X-Request-Id": name} if _ID.fullmatch(name) else {}  # else the server says what is wrong with it
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        connection: _Connection | None = None
        try:
            connection = self._connection(deadline)
            status, retry_after, text = connection.exchange(method, self._base + path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            raise self._unavailable(error, name, seconds) from None
        if connection.usable:
            self._idle.append(connection)
        return _read(status, retry_after, text)

    def _connection(self, deadline: float) -> _Connection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if connection.quiet():
                connection.set_deadline(deadline)
                return connection
            connection.close()  # the server has closed it, and nothing was sent on it: taking another repeats nothing
        return _Connection(self._host, self._port, self._tls, deadline)

    def _unavailable(self, error: Exception, request_id: str, seconds: float) -> Unavailable:
        where = f"{self._host}:{self._port}"
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return Unavailable(
                f"nobody answers: {error}", where=where, cure="check the address, and whether a worker runs"
            )
        why = f"within {seconds:g} s" if isinstance(error, TimeoutError) else f"({type(error).__name__}: {error})"
        cure = (
            f"it may stand in the journal all the same, as request {request_id}; asking again makes another prediction"
        )
        return Unavailable(f"no answer {why}", where=where, cure=cure)


class _Timed(socket.socket):
    """A socket whose every wait ends at one deadline: a timeout for each would add up."""

    deadline: float = 0.0

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self.settimeout(_left(self.deadline))
        return super().recv_into(*arguments, **named)

    def sendall(self, *arguments: Any) -> None:
        self.settimeout(_left(self.deadline))
        super().sendall(*arguments)


class _TimedTls(_Timed, ssl.SSLSocket):
    """The same over TLS: what it waits for is the next record, whole."""


class _Connection:
    """One connection; usable again while both sides keep it open and the last answer was read to its end."""

    def __init__(self, host: str, port: int, tls: bool, deadline: float) -> None:
        self._sock = _open(host, port, tls, deadline)
        self.set_deadline(deadline)
        self._http = http.client.HTTPConnection(host, port)
        self._http.sock = self._sock
        self.usable = False

    def set_deadline(self, deadline: float) -> None:
        """When every wait ends."""
        self._sock.deadline = deadline

    def quiet(self) -> bool:
        """Whether nothing came since the last answer; an end of the connection is something."""
        waiting = select.poll()  # unlike select.select it takes any number of open files
        waiting.register(self._sock, select.POLLIN)
        return not waiting.poll(0)

    def exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Status, Retry-After and body of the answer. Raises OSError, HTTPException."""
        self.usable = False
        self._http.request(method, path, body, dict(headers))
        response = self._http.getresponse()
        text = b"".join(iter(lambda: response.read(_CHUNK), b""))
        self.usable = self._http.sock is not None and not response.will_close
        return response.status, response.getheader("Retry-After") or "", text

    def close(self) -> None:
        """Close it."""
        self._http.close()
        self._sock.close()


def _left(deadline: float) -> float:
    """Seconds left. Raises TimeoutError when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _open(host: str, port: int, tls: bool, deadline: float) -> _Timed:
    made = socket.create_connection((host, port), _left(deadline))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return _Timed(fileno=made.detach())
    context = ssl.create_default_context()
    context.sslsocket_class = _TimedTls
    made.settimeout(_left(deadline))
    wrapped = context.wrap_socket(made, server_hostname=host)
    assert isinstance(wrapped, _TimedTls)
    return wrapped


def _path(model: str | None, what: str) -> str:
    return f"/{what}" if model is None else f"/models/{quote(model, safe='')}/{what}"


def _encode(value: object) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, default=_instant).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"the request is no JSON: {error}",
            where="client",
            cure="send text, finite numbers, booleans, null, instants",
        ) from None


def _instant(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r}"[:100])


def _read(status: int, retry_after: str, text: bytes) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if status >= 400:
        seconds = float(retry_after) if retry_after.isdigit() else None
        raise Problem(value if isinstance(value, dict) else {}, status=status, retry_after=seconds)
    if status >= 300 or value is None:
        raise _not_ours(text[:100])
    return value


def _row_problem(value: Any) -> Problem:
    if not isinstance(value, dict) or not isinstance(value.get("status"), int):
        raise _not_ours(value)
    return Problem(value, status=value["status"])


def _answer(value: Any) -> Answer:
    try:
        fixed = {"prediction_id", "request_id", "model", "version", "proba", "value", "probabilities", "threshold", "decision", "as_of",
                 "moments", "timestamp", "unseen", "degraded", "status"}  # fmt: skip
        probabilities = value.get("probabilities")
        score = max(probabilities.values()) if probabilities else value["proba"] if "proba" in value else value["value"]
        return Answer(
            entity={name: each for name, each in value.items() if name not in fixed},
            prediction_id=value["prediction_id"],
            request_id=value["request_id"],
            model=value["model"],
            version=value["version"],
            score=float(score),
            probabilities=probabilities,
            threshold=value["threshold"],
            decision=value["decision"],
            as_of=datetime.fromisoformat(value["as_of"]),
            moments={name: datetime.fromisoformat(each) for name, each in value["moments"].items()},
            timestamp=datetime.fromisoformat(value["timestamp"]),
            unseen=tuple(value["unseen"]),
            degraded=tuple(value["degraded"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _not_ours(value) from None


def _not_ours(value: object) -> Corrupt:
    return Corrupt(f"the answer is none of a worker's: {str(value)[:100]}", where="client", cure="check the address")
