"""Keep: what stands beside a chain while it works. Its lease is renewed; a loop that was paused, or lost its lease, ends its trainings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ecluse.core.errors import EcluseError
from ecluse.core.lease import Lease
from ecluse.core.ports import World
from ecluse.loop.child import Child, end
from ecluse.loop.pause import paused

LOOK_SECONDS = 1.0
LEASE_SECONDS = 60.0
"""How long a holder that says nothing is waited for."""


@contextlib.contextmanager
def kept(world: World, lease: Lease, running: list[Child]) -> Iterator[None]:
    """While the body runs, renew ``lease``; end the processes in ``running`` when the loop is paused or another holder took over."""
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(world, lease, running, ended), name="keep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keep(world: World, lease: Lease, running: list[Child], ended: threading.Event) -> None:
    while not ended.wait(LOOK_SECONDS):
        with contextlib.suppress(EcluseError):  # a state that is away for a moment: the lease outlasts it
            if paused(world) is not None or not world.state.renew_lease(lease):
                for child in list(running):
                    end(child)
