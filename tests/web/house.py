"""A control API over a real state, asked without a socket; shared by the tests of the room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecluse.app import App
from ecluse.core.access import SCOPES
from ecluse.core.settings import Settings
from ecluse.loop.keys import add_key
from ecluse.web.control import make_control
from ecluse.web.doorkeeper import Asgi


@dataclass(frozen=True)
class Answer:
    """Status, headers (lower case) and body; ``facts`` is the body as JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def facts(self) -> Any:
        return json.loads(self.body)


class House:
    """A project's control API with a key for each scope, named by it, and one with none of use."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.app = App(root, settings)
        self.world = self.app.world
        self.keys = {scope: self.key(scope, scope) for scope in SCOPES}
        self.control: Asgi = make_control(self.app)

    def key(self, name: str, *scopes: str) -> str:
        """A new key."""
        return add_key(self.world, self.app.settings, name, scopes, None, actor="ana")[0]

    def ask(
        self,
        method: str,
        path: str,
        key: str = "",
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; ``key`` is a scope's name or a key itself."""
        sent = json.dumps(body).encode() if raw is None and body is not None else raw or b""
        given = {"host": "127.0.0.1:8401", "content-type": "application/json", "content-length": str(len(sent))}
        if key:
            given["authorization"] = f"Bearer {self.keys.get(key, key)}"
        return asyncio.run(call(self.control, method, path, sent, {**given, **(headers or {})}))


async def call(
    control: Asgi, method: str, path: str, body: bytes, headers: Mapping[str, str], *, whole: bool = True
) -> Answer:
    """Drive an ASGI application through one request; the rest of a body that is not ``whole`` never comes."""
    plain, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items() if value],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8401),
    }
    sent: list[Any] = []
    inbox = [{"type": "http.request", "body": body, "more_body": not whole}]

    async def receive() -> dict[str, Any]:
        if not inbox and not whole:
            await asyncio.Event().wait()
        return inbox.pop() if inbox else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await control(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:]))
