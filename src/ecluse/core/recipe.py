"""Recipe: everything that determines a trained model, but for the data; and the resolved split that says who was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ecluse.core.codec import digest
from ecluse.core.model import Scalar


@dataclass(frozen=True)
class Recipe:
    """Model declaration, parameters, split, seed, the project's own code and the library versions, by digest or value."""

    model: str
    declaration: str
    code: str
    parameters: Mapping[str, Scalar | None]
    training: Mapping[str, object]
    threshold: Mapping[str, object]
    libraries: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        return digest(self)


@dataclass(frozen=True)
class Split:
    """Who is trained on: by entity (hash of the key below a share is held out, for ever) or by time (label moments after ``cutoff`` are
    held out, those within ``embargo`` before it are used by neither). ``history_from`` is the oldest label moment trained on.
    """

    kind: Literal["entity", "time"]
    held_out: float
    cutoff: datetime | None = None
    embargo: timedelta = timedelta(0)
    history_from: datetime | None = None
    last_moment: datetime | None = None


def held_position(key: str) -> float:
    """A key's fixed position in [0, 1): SHA-256 of its canonical text, so that it never depends on row order or machine.

    >>> round(held_position("7590-VHVEG"), 4) == round(held_position("7590-VHVEG"), 4)
    True
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def trained_on(split: Split, key: str, at: datetime) -> bool:
    """Whether a split's model may have seen this row's label in training (conservative: True for anything not surely held out)."""
    if split.last_moment is not None and at > split.last_moment and split.kind == "time":
        return False
    if split.kind == "entity":
        return held_position(key) >= split.held_out
    assert split.cutoff is not None
    return at <= split.cutoff
