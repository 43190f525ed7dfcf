"""A request's place among those being answered."""

from __future__ import annotations

from ecluse.serving.call import Call
from ecluse.serving.plane import Plane


class Admitted:
    """``async with Admitted(plane, call):`` a place among the requests in flight. Raises Refused: overloaded, deadline_exceeded.

    Read the body before: a body that comes slowly must not hold a place.
    """

    __slots__ = ("_admission", "_deadline")

    def __init__(self, plane: Plane, call: Call) -> None:
        self._admission, self._deadline = plane.admission, call.deadline

    async def __aenter__(self) -> None:
        await self._admission.enter(self._deadline)

    async def __aexit__(self, *error: object) -> None:
        self._admission.leave()
