"""The limits: an answer made beforehand, on the connection Écluse serves with, and by a bare ASGI application on uvicorn.

python -m bench.serving.static_app --port 8401
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import uvloop

from ecluse.core.settings import Serving
from ecluse.serving.call import Call, Reply
from ecluse.serving.connection import Connection

ANSWER = (
    b'{"prediction_id":"w1-5fl3kq0z1ab-1042","request_id":"0f3a2b1c9d8e7f60","model":"churn","version":1,"proba":0.2577641682936639,'
    b'"threshold":0.5,"decision":false,"as_of":"2026-01-31T00:00:00.000000Z","moments":{},"timestamp":"2026-01-31T00:00:00.000000Z",'
    b'"unseen":[],"degraded":[]}'
)
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(ANSWER)).encode()),
    (b"x-request-id", b"0f3a2b1c9d8e7f60"),
    (b"x-ecluse-model", b"churn"),
    (b"x-ecluse-version", b"1"),
]


REPLY = Reply(200, ANSWER, headers=HEADERS[3:])


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """As long an answer as a prediction's, with the same headers."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


class _Always:
    """What the connection needs of an application, with one reply for all."""

    plane = SimpleNamespace(serving=Serving(), closing=False)

    def open(self, method: str, path: str, headers: Mapping[bytes, bytes], *, keep_alive: bool = True) -> Call:
        now = time.perf_counter()
        return Call(method, path, headers, now, now + 1, "0f3a2b1c9d8e7f60", keep_alive)

    def enter(self, call: Call) -> None:
        pass

    async def answer(self, call: Call) -> Reply:
        return REPLY


async def serve(port: int) -> None:
    """On the connection Écluse serves with."""
    always: Any = _Always()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(always, set()), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--uvicorn", action="store_true", help="on uvicorn instead")
    given = parser.parse_args()
    if not given.uvicorn:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(given.port))
        return
    import uvicorn

    uvicorn.run(
        application,
        port=given.port,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
