"""Reading a request's body off ASGI: never more in memory than allowed, never longer than the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ecluse.serving.problems import Refused

Receive = Callable[[], Awaitable[dict[str, Any]]]

DISCARD_BYTES = 32 * 1024 * 1024
"""A body too large is read to its end and thrown away up to here, so that its sender gets the answer and not a reset."""


class Gone(Exception):
    """The caller hung up before its body was complete: nobody waits for an answer."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int, seconds: float) -> bytes | bytearray:
    """The whole body. Raises Refused (``body_too_large``, ``body_timeout``, ``unsupported_media_type``), or Gone."""
    kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refused("unsupported_media_type", f"the body is declared as {kind.decode('latin-1')[:60]}")
    declared = headers.get(b"content-length", b"")
    size = int(declared) if declared.isdigit() else 0
    if size > limit and (size > DISCARD_BYTES or b"expect" in headers):
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return await _collect(receive, limit)
    except TimeoutError:
        raise Refused("body_timeout", f"the body did not arrive within {seconds:g} s") from None


async def _collect(receive: Receive, limit: int) -> bytes | bytearray:
    body, thrown_away = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if thrown_away or len(body) > limit:
            thrown_away += len(body)
            body.clear()
        if thrown_away > DISCARD_BYTES or (thrown_away and not message.get("more_body")):
            raise _too_large(limit)
        if not message.get("more_body"):
            return body


def _too_large(limit: int) -> Refused:
    return Refused("body_too_large", f"the body has more than {limit} bytes")
