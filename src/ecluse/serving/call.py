"""A call and its reply: what every handler of the data plane is given and gives back, whatever protocol it speaks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ecluse.core.access import KeyGrant
from ecluse.serving.access import EVERYBODY
from ecluse.serving.body import Receive, read_body
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, excerpt

JSON, PROBLEM = b"application/json", b"application/problem+json"
TIMEOUT_HEADER = b"x-request-timeout-ms"


@dataclass
class Call:
    """One request on its way, and what is to be counted and answered about it.

    ``parameters`` are the parts of the path in braces; ``deadline`` is the monotonic second (``time.perf_counter``) after which nobody
    waits for the answer; ``grant`` is what the caller may.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive
    started: float
    deadline: float
    request_id: str
    route: str = "other"
    model: str = ""
    version: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    grant: KeyGrant = EVERYBODY

    def in_time(self) -> None:
        """Raises Refused ``deadline_exceeded`` when nobody waits for the answer any more: call it before work that costs."""
        if time.perf_counter() >= self.deadline:
            raise Refused("deadline_exceeded")

    def hurry(self) -> None:
        """Take the caller's own deadline, when it is sooner. Raises Refused ``invalid_deadline``."""
        if (asked := self.headers.get(TIMEOUT_HEADER)) is None:
            return
        if not asked.isdigit() or len(asked) > 9:
            raise Refused("invalid_deadline", f"X-Request-Timeout-Ms is {excerpt(asked.decode('latin-1'))}")
        self.deadline = min(self.deadline, self.started + int(asked) / 1_000)

    async def body(self, plane: Plane, kinds: tuple[bytes, ...] = (JSON,)) -> bytes | bytearray:
        """The body, declared as one of these media types. Raises Refused (too large, too late, another type), or Gone.

        Refused ``overloaded`` at once, before a byte of it is read, when there would be no place for the request.
        """
        plane.admission.check()
        return await read_body(self.receive, self.headers, plane.serving.max_body_bytes, self.deadline, kinds)


@dataclass(frozen=True)
class Reply:
    """Status, body and headers of an answer; ``code`` is "ok" or the problem's."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    code: str = "ok"


Handler = Callable[[Plane, Call], Awaitable[Reply]]
