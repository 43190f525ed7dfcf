"""API keys as the control plane grants them and workers check them: hashes, scopes and an end, never the key itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ecluse.core.errors import InvalidInput

SCOPES = {
    "predict": "ask for predictions",
    "versions": "ask for another warm version than the champion",
    "outcomes": "tell what came true",
    "metrics": "read the metrics",
    "read": "read what is served, and the documentation",
    "control": "wish for a version to be kept warm",
    "approve": "say yes or no to a release",
    "operate": "promote, reject, roll back, and steer the loop",
}


@dataclass(frozen=True)
class KeyGrant:
    """What the holder of one key may do. ``expires`` is an instant of the wall clock, not of the project's; None: never.

    ``revoked`` says why it ends: a revoked key is kept, so that its name is never given to another and no server opens when the last
    one goes.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...]
    expires: datetime | None = None
    revoked: bool = False

    def lives(self, now: datetime) -> bool:
        """Whether it may be used at ``now``.

        >>> from datetime import UTC, timedelta
        >>> now = datetime(2024, 1, 31, tzinfo=UTC)
        >>> [KeyGrant("a", "", (), now + timedelta(days=d)).lives(now) for d in (-1, 0, 1)]
        [False, False, True]
        """
        return self.expires is None or now < self.expires


def hash_key(key: str | bytes) -> str:
    """SHA-256 (hex) of a key. Keys are 256 random bits, so no slow hash is needed.

    >>> hash_key("secret") == hash_key(b"secret")
    True
    """
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes sorted and once each. Raises InvalidInput.

    >>> check_scopes(["read", "predict", "read"])
    ('predict', 'read')
    """
    given = sorted(set(scopes))
    if not given or not set(given) <= SCOPES.keys():
        wrong = ", ".join(repr(each) for each in given if each not in SCOPES)
        raise InvalidInput(
            f"no scope is called {wrong}" if wrong else "no scope is given", cure="choose from " + ", ".join(SCOPES)
        )
    return tuple(given)
