"""A call and its reply: what every handler of the data plane is given and gives back, whatever protocol it speaks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ecluse.core.access import KeyGrant
from ecluse.serving.access import EVERYBODY
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, excerpt

JSON, PROBLEM = b"application/json", b"application/problem+json"
CSV, OCTETS = b"text/csv", b"application/octet-stream"
TIMEOUT_HEADER = b"x-request-timeout-ms"


class Reply(NamedTuple):
    """Status, body and headers of an answer; ``code`` is "ok" or the problem's; after ``close`` the connection is of no more use."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    code: str = "ok"
    close: bool = False


@dataclass(slots=True)
class Call:
    """One request on its way, and what is to be counted and answered about it.

    ``route`` is the path as declared, ``parameters`` the parts of it in braces; when ``handler`` is called, ``body`` is complete;
    ``started`` and ``deadline`` are monotonic seconds (``time.perf_counter``): when its head was read, and after which nobody waits for the
    answer; ``grant`` is what the caller may; ``refused`` is why it will not be handled.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    started: float
    deadline: float
    request_id: str
    keep_alive: bool = True
    body: bytes | bytearray = b""
    route: str = "other"
    handler: Handler | None = None
    model: str = ""
    version: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    grant: KeyGrant = EVERYBODY
    refused: Refused | None = None

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


Handler = Callable[[Plane, Call], Awaitable[Reply]]
