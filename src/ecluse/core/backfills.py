"""Backfills: the port of features rebuilt over past moments, one table per view and moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol


class Backfills(Protocol):
    """Tables by view, moment and the digest of what determines them. A write is whole or absent."""

    def holds(self, view: str, moment: datetime, digest: str) -> bool:
        """Whether exactly this is stored. Raises Unavailable."""
        ...

    def write(self, view: str, moment: datetime, digest: str, frame: Any) -> None:
        """Store a Frame in place of what was stored for the view and moment. Raises Unavailable."""
        ...
