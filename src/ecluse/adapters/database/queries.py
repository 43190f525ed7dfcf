"""Every SQL statement of the state, by name."""

from __future__ import annotations

META = "SELECT value FROM meta WHERE key = ?"
SET_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
RAISE_META = SET_META + " WHERE excluded.value > meta.value"

GENERATION = "SELECT value FROM generation"
BUMP = "UPDATE generation SET value = value + 1 RETURNING value"

LAST_ROW = "SELECT sequence, hash FROM ledger ORDER BY sequence DESC LIMIT 1"
ADD_ROW = "INSERT INTO ledger (sequence, event, previous, hash) VALUES (?, ?, ?, ?)"
LEDGER = "SELECT sequence, event, previous, hash FROM ledger WHERE sequence > ? ORDER BY sequence LIMIT ?"
LEDGER_OF_MODEL = (
    "SELECT sequence, event, previous, hash FROM ledger WHERE sequence > ? AND model = ? ORDER BY sequence LIMIT ?"
)
LEDGER_OF_KEY = (
    "SELECT sequence, event, previous, hash FROM ledger WHERE sequence > ?1 AND key = ?2 AND (?3 IS NULL OR model = ?3)"
    " ORDER BY sequence LIMIT ?4"
)

ADD_SNAPSHOT = "INSERT INTO snapshot (name, digest, value) VALUES (?, ?, ?) ON CONFLICT (name, digest) DO NOTHING"
SNAPSHOTS = "SELECT value FROM snapshot WHERE ?1 IS NULL OR name = ?1 ORDER BY position"

FORGET_DECLARATION = "DELETE FROM declaration WHERE digest = ?"  # so that the one saved last is the newest
ADD_DECLARATION = "INSERT INTO declaration (digest, canonical) VALUES (?, ?)"
DECLARATION = "SELECT digest, canonical FROM declaration ORDER BY position DESC LIMIT 1"

RUN = "SELECT value FROM run WHERE id = ?"
RUNS = "SELECT value FROM run WHERE ?1 IS NULL OR model = ?1 ORDER BY position"
RUNS_BY_PREFIX = "SELECT value FROM run WHERE substr(id, 1, length(?1)) = ?1 ORDER BY position LIMIT 3"
ADD_RUN = "INSERT INTO run (id, model, value) VALUES (?, ?, ?)"

_VERSION = "SELECT model, number, run, bundle, stage, registered, threshold, pruned, held FROM version"
VERSION = f"{_VERSION} WHERE model = ? AND number = ?"
VERSION_OF_RUN = f"{_VERSION} WHERE run = ?"
VERSIONS = f"{_VERSION} WHERE ?1 IS NULL OR model = ?1 ORDER BY model, number"
NEXT_NUMBER = "SELECT coalesce(max(number), 0) + 1 FROM version WHERE model = ?"
ADD_VERSION = "INSERT INTO version VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
CHANGE_VERSION = "UPDATE version SET stage = ?, threshold = ?, pruned = ?, held = ? WHERE model = ? AND number = ?"
SET_STAGE = "UPDATE version SET stage = ? WHERE model = ? AND number = ?"

ADD_REPORT = "INSERT INTO report (model, version, dry, value) VALUES (?, ?, ?, ?)"
REPORT = "SELECT value FROM report WHERE model = ? AND version = ? AND dry = 0 ORDER BY position DESC LIMIT 1"

ROLLOUT = "SELECT value FROM rollout WHERE model = ?"
SET_ROLLOUT = (
    "INSERT INTO rollout (model, revision, champion, value) VALUES (?, ?, ?, ?) ON CONFLICT (model) DO UPDATE SET"
    " revision = excluded.revision, champion = excluded.champion, value = excluded.value"
)

TO_MIRROR = "INSERT INTO outbox (kind, reference) VALUES (?, ?)"
PENDING = "SELECT id, kind, reference FROM outbox ORDER BY id"
DONE = "DELETE FROM outbox WHERE id = ?"

LEASE = "SELECT token, holder, process, boot, until FROM lease WHERE name = ?"
SET_LEASE = (
    "INSERT INTO lease (name, holder, token, process, boot, until) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO"
    " UPDATE SET holder = excluded.holder, token = excluded.token, process = excluded.process, boot = excluded.boot, until = excluded.until"
)
RENEW_LEASE = "UPDATE lease SET until = ? WHERE name = ? AND token = ? AND holder = ?"
FREE_LEASE = "UPDATE lease SET holder = '', until = 0 WHERE name = ? AND token = ?"
