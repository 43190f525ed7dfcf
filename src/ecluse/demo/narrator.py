"""The narrator: runs the demo's steps one after the other, says what each is about, times it, and keeps what the summary needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Say = Callable[[str], None]


@dataclass
class Narrator:
    """Says what happens and remembers each step's name, seconds and whether it went as told."""

    say: Say
    steps: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, name: str, about: str) -> Iterator[None]:
        """A step; an error is recorded and ends the story."""
        self.say(f"\n{len(self.steps) + 1:>2}. {name}\n    {about}")
        began = time.monotonic()
        record: dict[str, Any] = {"name": name, "seconds": 0.0, "ok": False}
        self.steps.append(record)
        try:
            yield
            record["ok"] = True
        finally:
            record["seconds"] = round(time.monotonic() - began, 3)
            self.say(f"    {'done' if record['ok'] else 'FAILED'} in {record['seconds']:.2f} s")

    def tell(self, text: str) -> None:
        """A line (or a table) within a step."""
        for line in text.splitlines():
            self.say(f"      {line}".rstrip())

    def require(self, held: bool, sentence: str) -> None:
        """What the story promises; a broken promise ends it."""
        if not held:
            raise AssertionError(f"the story went another way: {sentence}")
        self.tell(sentence)

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return round(time.monotonic() - self.started, 3)
