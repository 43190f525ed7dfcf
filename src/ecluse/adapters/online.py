"""Which online store the settings name: a SQLite file of this profile, or a Redis shared by many. Libraries load when they are chosen."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.core.ports import Online, OnlineReads
from ecluse.core.settings import Settings, Stores

FILE = "online.db"
ENVIRONMENT = "ECLUSE_ONLINE_PASSWORD"


def resolved(settings: Settings) -> Stores:
    """The stores' settings with the prefix that keeps this project and profile apart from others in the same Redis."""
    own = f"ecluse:{settings.project}:{settings.profile}"
    return replace(settings.stores, online_prefix=settings.stores.online_prefix or own)


def open_online(home: Path, stores: Stores) -> Online:
    """What the control plane writes. Raises DeclarationError for an address that is none."""
    if not stores.online:
        return OnlineSqlite.open(home / FILE)
    from ecluse.adapters.online_redis import OnlineRedis

    return OnlineRedis(stores, os.environ.get(ENVIRONMENT, ""))


def open_reads(home: Path, stores: Stores) -> OnlineReads:
    """What a worker reads. Raises DeclarationError, and Unavailable when the library is not installed."""
    if not stores.online:
        return OnlineSqlite.open(home / FILE, read_only=True)
    from ecluse.adapters.online_redis_reads import OnlineRedisReads

    return OnlineRedisReads(stores, os.environ.get(ENVIRONMENT, ""))
