"""A real worker, and with the defect "hasty" one that ends at once on SIGTERM. ``hasty_worker.py DEFECT <arguments of ecluse.worker>``."""

from __future__ import annotations

import asyncio
import sys

import ecluse.serving.server
import ecluse.worker
from ecluse.serving.http import Application


async def _hasty(application: Application, server: object, asked: asyncio.Event) -> None:
    await asked.wait()
    vars(server)["should_exit"] = True


if __name__ == "__main__":
    if sys.argv[1] == "hasty":
        vars(ecluse.serving.server)["_drain"] = _hasty
    sys.exit(ecluse.worker.main(sys.argv[2:]))
