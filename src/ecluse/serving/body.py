"""Reading a request's body off ASGI: never more in memory than allowed, never longer than the deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ecluse.serving.problems import Refused

Receive = Callable[[], Awaitable[dict[str, Any]]]

DISCARD_BYTES = 32 * 1024 * 1024
"""A body too large is read to its end and thrown away up to here, so that its sender gets the answer and not a reset."""


class Gone(Exception):
    """The caller hung up before its body was complete: nobody waits for an answer."""


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], limit: int, deadline: float, kinds: Sequence[bytes]
) -> bytes | bytearray:
    """The whole body, there by ``deadline`` (``time.perf_counter``) and declared as one of ``kinds`` (undeclared: the first).

    Raises Refused (``body_too_large``, ``body_timeout``, ``unsupported_media_type``), or Gone.
    """
    kind = headers.get(b"content-type", kinds[0]).split(b";")[0].strip().lower()
    if kind not in kinds:
        raise Refused("unsupported_media_type", f"the body is declared as {kind.decode('latin-1')[:60]}")
    declared = headers.get(b"content-length", b"")
    size = int(declared) if declared.isdigit() else 0
    if size > limit and (size > DISCARD_BYTES or b"expect" in headers):
        raise _too_large(limit)
    try:
        async with asyncio.timeout(deadline - time.perf_counter()):
            return await _collect(receive, limit)
    except TimeoutError:
        raise Refused("body_timeout", "the body did not arrive before the deadline of the request") from None


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
