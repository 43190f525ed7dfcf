"""A worker with defects planted: handlers that fail as no handler may. Arguments as of ``ecluse.worker``."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus

import ecluse.worker
from ecluse.serving import http
from ecluse.serving.call import Call, Reply
from ecluse.serving.plane import Plane
from ecluse.serving.routes import OPEN, ROUTES, Route, Router


async def _gives_up(plane: Plane, call: Call) -> Reply:
    raise asyncio.CancelledError


async def _gives_up_later(plane: Plane, call: Call) -> Reply:
    await asyncio.sleep(0.01)
    raise asyncio.CancelledError


async def _says_nothing_known(plane: Plane, call: Call) -> Reply:
    return Reply(max(HTTPStatus) + 1, b"")


_FAULTY = {"/now": _gives_up, "/later": _gives_up_later, "/status": _says_nothing_known}

if __name__ == "__main__":
    routes = ROUTES + tuple(Route("GET", path, OPEN, handler) for path, handler in _FAULTY.items())
    setattr(http, "Router", lambda: Router(routes))  # noqa: B010 - a class is not assigned to
    sys.exit(ecluse.worker.main())
