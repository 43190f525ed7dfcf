"""Twins in memory of what the loop works with besides the state: clock, publisher, sealer, bundles, durable work. For simulations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from ecluse.core.document import Document, Signed
from ecluse.core.ports import Bundles, State, World
from ecluse.core.wish import Wish

KEY = "00" * 32


class Killed(BaseException):
    """The simulated process is dead, at this very place."""


@dataclass
class VirtualTime:
    """Port Clock, moved by hand: ``seconds`` since the simulation began only grow; what the clock of the wall shows may be set
    (``offset``) or stand still (``frozen``).
    """

    began: datetime
    seconds: float = 0.0
    offset: timedelta = field(default_factory=timedelta)
    frozen: datetime | None = None

    def now(self) -> datetime:
        """What the wall shows."""
        return self.frozen or self.began + timedelta(seconds=self.seconds) + self.offset

    def true(self) -> datetime:
        """What it would show had nobody set it."""
        return self.began + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.seconds

    def advance(self, to: datetime) -> None:
        """Nothing: data does not move this one."""


@dataclass
class MemoryPublisher:
    """Port Publisher: the last document."""

    signed: Signed | None = None

    def publish(self, document: Document, signed: Signed) -> None:
        """Replace it."""
        self.signed = signed

    def current(self) -> Signed | None:
        """The document as published."""
        return self.signed

    def wishes(self) -> tuple[Wish, ...]:
        """None: nobody calls."""
        return ()

    def decided(self, wish: Wish) -> None:
        """Nothing to forget."""


class MemorySealer:
    """Port Sealer whose signatures are none: nobody verifies in a simulation."""

    public_key = KEY

    def sign(self, payload: str) -> Signed:
        """Signed in name only."""
        return Signed(KEY, "", payload)


class EveryBundle:
    """The part of port Bundles a release asks for: any bundle is there, well sealed."""

    def get(self, digest: str) -> str:
        """There."""
        return digest

    def seal(self, digest: str) -> Signed:
        """Sealed in name."""
        return Signed(KEY, "", digest)


class Remembering:
    """Port Durable: steps that ended are remembered, across kills too. ``at_step`` is asked before each step and after it ran, before it is
    remembered: the places where a kill hurts.
    """

    def __init__(self, works: Mapping[str, Callable[..., Any]], at_step: Callable[[], None] = lambda: None) -> None:
        self._works, self._at_step = works, at_step
        self._begun: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self._steps: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, Any] = {}

    def run(self, workflow_id: str, name: str, *args: Any) -> Any:
        """See ``core.ports.Durable``."""
        if workflow_id not in self._ended:
            self._begun[workflow_id] = (name, args)
            memory = self._steps.setdefault(workflow_id, {})
            self._ended[workflow_id] = self._works[name](lambda step, work: self._step(memory, step, work), *args)
        return self._ended[workflow_id]

    def recover(self) -> None:
        """What was begun and not ended goes on, as at a launch."""
        for workflow_id, (name, args) in list(self._begun.items()):
            if workflow_id not in self._ended:
                self.run(workflow_id, name, *args)

    def _step(self, memory: dict[str, Any], name: str, work: Callable[[], Any]) -> Any:
        if name not in memory:
            self._at_step()
            answer = json.loads(json.dumps(work()))
            self._at_step()
            memory[name] = answer
        return memory[name]


def twin_world(state: State, clock: VirtualTime, publisher: MemoryPublisher, name: str) -> World:
    """All ports a loop needs that retrains, gates and releases in name only; the others are not there."""
    absent = cast(Any, None)
    return World(
        root=Path(name),
        home=Path(name),
        clock=clock,
        state=state,
        snapshots=absent,
        bundles=cast(Bundles, EveryBundle()),
        online=absent,
        sealer=MemorySealer(),
        publisher=publisher,
        open_scorer=absent,
        read_predictions=lambda since, until, last, *, model=None: iter(()),
        tracker=lambda: None,
        actor="simulation",
    )
