"""Asks a running server over HTTP: one request, one answer, no retries; problem answers become errors with their cure."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ecluse.adapters.serve_lock import FILE as LOCK
from ecluse.core.errors import EcluseError, InvalidInput, NotAllowed, NotFound, Unavailable

TIMEOUT_SECONDS = 5.0


def call(url: str, path: str, body: Mapping[str, Any] | None = None, *, key: str = "") -> dict[str, Any]:
    """GET (or POST ``body`` as JSON to) ``path`` of the server at ``url``. Raises NotFound, NotAllowed, InvalidInput, Unavailable."""
    status, data = _ask(url, path, body, key)
    return _read(status, data, url + path)


def read_metrics(home: Path, url: str, *, key: str = "") -> str:
    """The Prometheus text of the server of ``home``: where its lock says it listens, else at ``url``. Raises as :func:`call`."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none ever ran here, or it is just starting
        url = str(json.loads((home / LOCK).read_text())["url"])
    status, data = _ask(url, "/metrics", None, key)
    if status >= 400:
        _read(status, data, url + "/metrics")
    return data.decode(errors="replace")


def _ask(url: str, path: str, body: Mapping[str, Any] | None, key: str) -> tuple[int, bytes]:
    connection = _connection(url)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, payload, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.InvalidURL as error:
        raise InvalidInput(f"{path!r} is no path: {error}", where=url, cure="check the model's name") from None
    except (OSError, http.client.HTTPException) as error:  # or what answers there does not speak HTTP
        raise Unavailable(f"no server answers: {error}", where=url, cure="start it with `ecluse serve`") from None
    finally:
        connection.close()


def _connection(url: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port beyond 65535, a bracket left open
        host, port = None, None
    else:
        if parts.scheme == "https" and host:
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS)
    if not host or parts.scheme != "http":
        raise InvalidInput(f"{url!r} is no address", cure="write http://127.0.0.1:8400")
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)


def describe(url: str) -> str:
    """One phrase about whether a server answers at ``url``, and how it is."""
    try:
        return f"{url} ({call(url, '/health').get('status', 'up')})"
    except EcluseError:
        return f"none answers at {url}"


def _read(status: int, data: bytes, where: str) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = {"detail": data[:200].decode(errors="replace")}
    if status < 400 and isinstance(answer, dict):
        return answer
    kind = {401: NotAllowed, 403: NotAllowed, 404: NotFound}.get(status, InvalidInput if status < 500 else Unavailable)
    detail = answer.get("detail") or answer.get("title") if isinstance(answer, dict) else str(answer)
    cure = str(answer.get("cure", "")) if isinstance(answer, dict) else ""
    if status == 401:  # the caller has no header to write
        cure = "put an API key into ECLUSE_API_KEY; `ecluse keys add` makes one"
    raise kind(f"{status}: {detail}", where=where, cure=cure)
