"""How many requests are answered at once: a place for each, none beyond the bound."""

from __future__ import annotations

from ecluse.serving.call import Call
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused


class Admitted:
    """``async with Admitted(plane, call):`` a place among the requests in flight. Raises Refused ``overloaded`` when there is none."""

    __slots__ = ("_plane",)

    def __init__(self, plane: Plane, call: Call) -> None:
        self._plane = plane

    async def __aenter__(self) -> None:
        if self._plane.in_flight >= self._plane.serving.max_in_flight:
            raise Refused("overloaded", f"{self._plane.in_flight} requests are in flight")
        self._plane.in_flight += 1

    async def __aexit__(self, *error: object) -> None:
        self._plane.in_flight -= 1
