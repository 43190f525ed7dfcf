"""Beside: work done again and again on a thread of its own, so that a long training holds it up as little as it holds up the training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ecluse.core.errors import EcluseError, NotFound

_log = logging.getLogger("ecluse.loop")


@contextmanager
def beside(name: str, work: Callable[[], object], every: float) -> Iterator[None]:
    """Call ``work`` every so many seconds while the block lasts. What goes wrong is told once, and tried again with the next turn.

    The end of the block waits a second for a turn under way; the thread never keeps a process alive.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_turns, args=(name, work, every, stop), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(1.0)


def _turns(name: str, work: Callable[[], object], every: float, stop: threading.Event) -> None:
    trouble = ""
    while not stop.is_set():
        said = ""
        try:
            work()
        except NotFound as error:  # nothing there to look at yet
            _log.debug(name, extra={"facts": {"why": str(error)}})
        except EcluseError as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001 - a bug here must not end the watch for good, and is told
            said = f"{type(error).__name__}: {error}"
        if said and said != trouble:
            _log.error("failed", extra={"facts": {"part": name, "why": said}})
        elif trouble and not said:
            _log.info("well again", extra={"facts": {"part": name}})
        trouble = said
        stop.wait(every)
