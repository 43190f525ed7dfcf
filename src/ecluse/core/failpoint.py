"""Failpoints: named places where a test may kill, fail or slow the process, to prove that every step can be the last one.

Off unless ``ECLUSE_FAILPOINT`` says ``<name>=kill``, ``<name>=kill:<n>`` (the n-th time the process is there), ``<name>=raise`` or
``<name>=sleep:<milliseconds>``. Only commands of the control plane pass through them, never a request.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

from ecluse.core.errors import InvalidInput, Unavailable

VARIABLE = "ECLUSE_FAILPOINT"

RELEASE = (
    "promote.start",
    "promote.read",
    "promote.decided",
    "promote.moved",
    "promote.published",
    "rollback.start",
    "rollback.read",
    "rollback.decided",
    "rollback.moved",
    "rollback.published",
    "state.begun",
    "state.compared",
    "state.staged",
    "state.chained",
    "state.before_commit",
    "state.after_commit",
    "publish.start",
    "publish.built",
    "publisher.locked",
    "publisher.before_rename",
    "publisher.after_rename",
)
"""In the order a promotion or a rollback meets them."""

LOOP = (
    "chain.leased",
    "step.begin",
    "train.begun",
    "train.recorded",
    "step.done",
    "step.kept",
    "chain.over",
    "react.handled",
    "mirror.begin",
    "mirror.applied",
    "mirror.done",
)
"""In the order the chain of an event meets them, and the mirror of what it did. Those of a step are met at every step."""

POINTS = RELEASE + LOOP
_met: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Do what the environment asks at this place; nothing when it asks for none. Raises Unavailable on ``raise``, InvalidInput on a typo.

    >>> failpoint("promote.start")
    """
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return
    place, _, action = asked.partition("=")
    if place not in POINTS:
        raise InvalidInput(f"no failpoint {place!r}", where=VARIABLE, cure="choose among " + ", ".join(POINTS))
    if place != name:
        return
    _met[name] += 1
    if action == "kill" or (action.startswith("kill:") and action[5:].isdigit()):
        if _met[name] == int(action[5:] or 1):
            os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise Unavailable(f"failpoint {name}", where=VARIABLE)
    elif action.startswith("sleep:") and action[6:].isdigit():
        time.sleep(int(action[6:]) / 1000)
    else:
        raise InvalidInput(
            f"failpoint action {action!r}", where=VARIABLE, cure="use kill, kill:<n>, raise or sleep:<milliseconds>"
        )
