"""Lease: the right of one holder to do a piece of work, for a time. Its token only grows: whoever lost it is known by an older one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True)
class Lease:
    """``holder`` may do ``name`` until ``seconds`` have passed since it was taken or renewed; ``token`` is higher than any before."""

    name: str
    holder: str
    token: int
    seconds: float


class Leases(Protocol):
    """Leases kept by the authority. Their time is the machine's since it started, which nobody sets: no jump of a clock ends one early."""

    def take_lease(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease under a new token when it is free or has ended, its holder's process is dead, or it is this process's under the same name
        (then the earlier token ends); else None.
        """
        ...

    def renew_lease(self, lease: Lease) -> bool:
        """``seconds`` more from now; False when its token is no longer the newest."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Free it; nothing when it was lost."""
        ...

    def fenced(self, lease: Lease) -> Self:
        """The same state, each of whose writes asks within its own transaction whether the token is still the newest, and raises Conflict
        when it is not: what a paused holder wanted to write when it wakes is refused.
        """
        ...
