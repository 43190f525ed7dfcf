"""Once: a fact that many may find at the same time, and that is told one time."""

from __future__ import annotations

import os
import threading
import time

from ecluse.core.errors import Conflict, Unavailable
from ecluse.core.event import Event
from ecluse.core.ports import World

WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.02


def tell_once(world: World, event: Event) -> int:
    """The ledger's number of the fact of this kind and model with the event's ``key`` in its evidence; appended unless it is there.

    Between looking and appending stands a lease: processes that find the same at once tell it once, and whoever was overtaken looks again.
    Raises Unavailable when the lease is not to be had.
    """
    found = _find(world, event)
    end = time.monotonic() + WAIT_SECONDS
    while found is None:
        name, holder = f"tell {event.kind} {event.model}", f"{os.getpid()}.{threading.get_ident()}"
        lease = world.state.take_lease(name, holder, WAIT_SECONDS)
        if lease is not None:
            try:
                found = _find(world, event)
                if found is None:
                    return world.state.fenced(lease).append(event).sequence
            except Conflict:
                continue
            finally:
                world.state.release_lease(lease)
        elif time.monotonic() > end:
            raise Unavailable(f"another process has been telling {event.kind} for {WAIT_SECONDS:g} s", cure="try again")
        else:
            time.sleep(_PAUSE_SECONDS)
            found = _find(world, event)
    return found


def _find(world: World, event: Event) -> int | None:
    """The number of that fact: few have its key, and the state finds them without reading the others."""
    rows = world.state.ledger(model=event.model, key=str(event.evidence["key"]))
    return next((row.sequence for row in rows if row.event.kind == event.kind), None)
