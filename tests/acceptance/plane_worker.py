"""A real worker, and with a planted defect where one is named: what the checks of the data plane must turn red on.

Run as a script: ``plane_worker.py DEFECT <arguments of ecluse.worker>``; DEFECT "none" plants nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import ecluse.serving.health
import ecluse.worker
from ecluse.adapters.trials import Trials
from ecluse.serving.places import Places
from ecluse.serving.plane import Plane
from ecluse.serving.scorers import Fleet, Loaded, next_fleet

HALF_SECONDS = 0.03


def _mixed() -> None:
    """A swap in two steps: for a moment the new version's number and threshold stand over the old one's scorer."""

    def half(before: Fleet, after: Fleet) -> Fleet:
        old: Mapping[str, Loaded] = before.champions
        return replace(
            after,
            champions={
                name: replace(loaded, scorer=old[name].scorer) if name in old else loaded
                for name, loaded in after.champions.items()
            },
        )

    def swap(plane: Plane, after: Fleet) -> None:
        before: Fleet | None = vars(plane).get("_present")
        vars(plane)["_present"] = after
        if before is not None and before.champions:
            vars(plane)["_present"] = half(before, after)
            asyncio.get_running_loop().call_later(HALF_SECONDS, vars(plane).__setitem__, "_present", after)

    setattr(Plane, "fleet", property(lambda plane: vars(plane)["_present"], swap))  # noqa: B010 - an attribute becomes a property


def _unload() -> None:
    """What serves is dropped before the next one is loaded."""
    load = Plane.load

    async def hasty(self: Plane) -> None:
        self.fleet = replace(self.fleet, champions={}, warm={})
        await load(self)

    setattr(Plane, "load", hasty)  # noqa: B010 - a method is not assigned to


def _at_bind() -> None:
    """Whoever asks is told that it is ready."""
    vars(ecluse.serving.health)["unready"] = lambda plane: None


def _unbounded() -> None:
    """Whoever comes may wait."""
    make = Places.__init__
    setattr(Places, "__init__", lambda self, places, waiting: make(self, places, 1 << 40))  # noqa: B010 - as above


def _asking() -> None:
    """What answers is looked up in the bundle store with every request."""

    def look(plane: Plane) -> Fleet:
        held: Fleet = vars(plane)["_present"]
        return next_fleet(Fleet(), held.document, plane.parts.load) if held.document else held

    setattr(Plane, "fleet", property(look, lambda plane, fleet: vars(plane).__setitem__("_present", fleet)))  # noqa: B010 - as above


def _untried() -> None:
    """What is published is parsed by the worker at once."""
    setattr(Trials, "__call__", lambda self, bundle: None)  # noqa: B010 - as above


DEFECTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "mixed": _mixed,
    "unload": _unload,
    "at bind": _at_bind,
    "unbounded": _unbounded,
    "asking": _asking,
    "untried": _untried,
}


if __name__ == "__main__":
    DEFECTS[sys.argv[1]]()
    sys.exit(ecluse.worker.main(sys.argv[2:]))
