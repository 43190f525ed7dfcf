"""Notify: who asked for events of some kinds is told of each, in the ledger's order; who cannot be told is noted, and holds nobody up.

Each receiver has its own mark in the state. Told is what was answered with success; a process killed in between tells it again, under the same
name, so that receivers know it. Given up after the attempts, the fact ``notify.failed`` says so, and the next event has its turn.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from ecluse.core.codec import canonical
from ecluse.core.errors import EcluseError, NotAllowed
from ecluse.core.event import Event, LedgerRow
from ecluse.core.instants import format_instant
from ecluse.core.loop_settings import LEAST_SECRET, Webhook
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.beside import beside

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second attempt, doubled each time."""
ACTOR = "loop, notify"


class Post(Protocol):
    """Sends one message, within ``timeout`` seconds. Whatever it raises is a failed attempt."""

    def __call__(
        self, url: str, body: bytes, *, secret: str, event: str, private: bool = False, timeout: float = 5.0
    ) -> int:
        """The status."""
        ...


@dataclass
class Outbox:
    """What one turn leaves to the next: per receiver how often its oldest message failed, and when (monotonic) it is tried again."""

    failures: dict[str, int] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)


def deliver(
    world: World, settings: Settings, post: Post, outbox: Outbox, *, now: Callable[[], float] = time.monotonic
) -> int:
    """Tell every receiver what it was not told yet, each until one message fails; returns how many were told. Never waits for a next attempt.

    In turn: a slow receiver costs those after it its own time (:func:`delivering` does not let it).
    """
    project = settings.project or world.root.name
    return sum(_deliver(world, name, hook, project, post, outbox, now) for name, hook in settings.notify.items())


@contextmanager
def delivering(world: World, settings: Settings, post: Post, every: float) -> Iterator[None]:
    """Deliver every so many seconds while the block lasts, each receiver on a thread of its own: a slow one costs the others nothing."""
    with ExitStack() as threads:
        for name, hook in settings.notify.items():
            own = replace(settings, notify={name: hook})
            threads.enter_context(beside(f"notify {name}", partial(deliver, world, own, post, Outbox()), every))
        yield


def _deliver(
    world: World, name: str, hook: Webhook, project: str, post: Post, outbox: Outbox, now: Callable[[], float]
) -> int:
    key, told = f"notify.{name}", 0
    if now() < outbox.not_before.get(name, 0.0):
        return 0
    mark = world.state.meta(key)
    if mark is None:  # who asks for the first time is told of what happens from now on
        newest = max((row.sequence for row in world.state.ledger()), default=0)
        world.state.set_meta(key, str(newest))
        return 0
    for row in world.state.ledger(after=int(mark)):
        if row.event.kind in hook.kinds and not _tell(world, name, hook, project, row, post, outbox, now):
            return told
        told += row.event.kind in hook.kinds
        world.state.set_meta(key, str(row.sequence))
    return told


def _tell(
    world: World,
    name: str,
    hook: Webhook,
    project: str,
    row: LedgerRow,
    post: Post,
    outbox: Outbox,
    now: Callable[[], float],
) -> bool:
    """Whether the next event may have its turn: it was told, or given up."""
    try:
        secret = os.environ.get(hook.secret, "")
        if len(secret) < LEAST_SECRET:
            what, cure = f"no secret to sign with in {hook.secret}", f"set it, at least {LEAST_SECRET} characters"
            raise NotAllowed(what, where=f"notify.{name}", cure=cure)
        post(
            hook.url,
            message(row, project),
            secret=secret,
            event=f"{row.sequence}-{row.hash[:12]}",
            private=hook.private,
            timeout=hook.timeout.total_seconds(),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is: it is this receiver's alone, and counts
        failures = outbox.failures.get(name, 0) + 1
        if failures < hook.attempts:
            outbox.failures[name] = failures
            outbox.not_before[name] = now() + pause(failures)
            return False
        facts = {"receiver": name, "event": row.sequence, "attempts": failures}
        why = f"{name} was not told of event {row.sequence} ({row.event.kind}): {_said(error)}"
        world.state.append(
            Event("notify.failed", world.clock.now(), ACTOR, row.event.model, row.event.version, why, facts)
        )
    outbox.failures.pop(name, None)
    outbox.not_before.pop(name, None)
    return True


def _said(error: Exception) -> str:
    """What the ledger may keep of an error: one that is not of ours may quote the address, which may be a secret."""
    return str(error) if isinstance(error, EcluseError) else type(error).__name__


def pause(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds until the next attempt: doubled each time, capped, and anywhere in the upper half, so that many do not come back at once.

    >>> pause(1, lambda: 1.0), pause(3, lambda: 0.0), pause(99, lambda: 1.0)
    (1.0, 2.0, 60.0)
    """
    longest: float = min(FIRST_PAUSE * 2 ** min(failures - 1, 30), LONGEST_PAUSE)
    return longest * (0.5 + 0.5 * draw())


def message(row: LedgerRow, project: str) -> bytes:
    """What a receiver reads, as canonical JSON."""
    event = row.event
    told: Mapping[str, Any] = {
        "project": project,
        "number": row.sequence,
        "hash": row.hash,
        "kind": event.kind,
        "time": format_instant(event.time),
        "actor": event.actor,
        "model": event.model,
        "version": event.version,
        "reason": event.reason,
        "evidence": event.evidence,
    }
    return canonical(told)
