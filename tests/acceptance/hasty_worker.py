"""A real worker, and with the defect "hasty" one that ends at once on SIGTERM. ``hasty_worker.py DEFECT <arguments of ecluse.worker>``."""

from __future__ import annotations

import asyncio
import sys

import ecluse.serving.server
import ecluse.worker
from ecluse.serving.connection import Connection
from ecluse.serving.http import Application


async def _hasty(
    application: Application, connections: set[Connection], asked: asyncio.Event, now: asyncio.Event
) -> None:
    await asked.wait()
    for connection in tuple(connections):
        connection.abort()


if __name__ == "__main__":
    if sys.argv[1] == "hasty":
        assert "_quiet" in vars(ecluse.serving.server)
        vars(ecluse.serving.server)["_quiet"] = _hasty
    sys.exit(ecluse.worker.main(sys.argv[2:]))
