"""The data plane within this process: requests go straight to the application, over the real adapters of a house."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.serving.house import House

from ecluse.core.settings import Serving
from ecluse.serving.http import Application
from ecluse.serving.plane import Plane
from ecluse.worker import compose


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's code, or "ok"."""
        return str(json.loads(self.body)["code"]) if self.status >= 400 else "ok"


async def ask(
    application: Application,
    method: str,
    path: str,
    body: object = None,
    *,
    key: str = "",
    host: str = "localhost",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request and its answer."""
    named = {"host": host, **({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    call = application.open(method, path, {name.lower().encode(): value.encode() for name, value in named.items()})
    application.enter(call)
    call.body = b"" if body is None else json.dumps(body).encode()
    reply = await application.answer(call)
    found = {"x-request-id": call.request_id, **{name.decode(): value.decode() for name, value in reply.headers}}
    return Answer(reply.status, found, reply.body)


@contextlib.contextmanager
def plane_of(house: House, *, profile: str = "dev", **serving: Any) -> Iterator[Plane]:
    """A plane that has read the house's document; its journal is closed at the end."""
    plane = compose(house.home, Serving(**serving), profile=profile, worker="inside")
    asyncio.run(plane.load())
    try:
        yield plane
    finally:
        plane.parts.journal.close()
