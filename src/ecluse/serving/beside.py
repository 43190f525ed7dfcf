"""Work beside the event loop, on a thread that does not keep the process: a bundle that takes a minute to load must not delay its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def run_beside(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises. Should nobody wait any more, it is left to itself."""
    found: Future[T] = Future()
    found.set_running_or_notify_cancel()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            found.set_exception(error)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return await asyncio.wrap_future(found)
