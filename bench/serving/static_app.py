"""The limit: a bare ASGI application that reads the body and answers always the same, on the HTTP server Écluse serves with.

python -m bench.serving.static_app --port 8401
"""

from __future__ import annotations

import argparse
from typing import Any

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


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """As long an answer as a prediction's, with the same headers."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
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
