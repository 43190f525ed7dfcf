"""The project's clock: the system's, or the newest data's as the state remembers it (DESIGN: one clock, published to every process)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from ecluse.core.errors import NotFound
from ecluse.core.instants import parse_instant
from ecluse.core.ports import Clock, State

KEY = "data_now"


class SystemClock:
    """The machine's clock.

    >>> SystemClock().now().tzinfo
    datetime.timezone.utc
    """

    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(UTC)

    def advance(self, to: datetime) -> None:
        """Nothing: nobody moves this one."""


class DataClock:
    """The newest data's clock, in the state: the same for every process, moved on and never back."""

    def __init__(self, state: State) -> None:
        self._state = state

    def now(self) -> datetime:
        """The instant last moved to. Raises NotFound before there is any."""
        text = self._state.meta(KEY)
        if text is None:
            raise NotFound(
                "the data clock has not been set",
                where='[time] now = "data"',
                cure="ingest data with --as-of, or run `ecluse clock set`",
            )
        return parse_instant(text)

    def advance(self, to: datetime) -> None:
        """Move on to ``to``; an earlier instant changes nothing, also when two processes move it at once."""
        # Fixed width, so that the order of the texts is the order of the instants.
        self._state.raise_meta(KEY, to.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def project_clock(now: Literal["system", "data"], state: State) -> Clock:
    """The clock ``[time] now`` asks for."""
    return DataClock(state) if now == "data" else SystemClock()
