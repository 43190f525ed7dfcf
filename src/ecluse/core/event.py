"""Event and ledger row: facts in the past tense, and the append-only, hash-chained record of all of them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ecluse.core.codec import canonical
from ecluse.core.errors import InvalidInput

KINDS = {
    "data.ingested": "a snapshot was taken of a table",
    "data.refused": "an ingest stopped before anything was changed",
    "data.late": "a source is behind the freshness it promised",
    "source.taken": "a drop of a source was ingested and its features materialised",
    "source.refused": "a drop of a source was refused",
    "features.materialized": "the online store was brought up to a moment",
    "features.backfilled": "features were rebuilt over past snapshots",
    "run.finished": "a training produced a run",
    "run.failed": "a training ended without one",
    "tuning.finished": "better hyperparameters were searched",
    "version.registered": "a run became a version",
    "version.gated": "gates were judged",
    "version.promoted": "a version became champion",
    "version.approved": "a person said yes to a release",
    "version.disapproved": "a person said no to a release, or took a yes back",
    "release.refused": "a release, or an approval of one, was against the rules and did not happen",
    "policy.overridden": "a version was released past its gates or approvals, by name",
    "mirror.altered": "somebody moved an alias in the tracking store; it is put back",
    "state.doubted": "the state says what no recorded decision does: it is not published",
    "version.rejected": "a version was refused for good",
    "version.rolled_back": "an earlier version became champion again",
    "version.pruned": "a version's bytes were deleted by retention",
    "version.held": "a version was put under audit hold, or released from it",
    "threshold.changed": "a decision threshold was set",
    "monitor.judged": "a window was compared with its reference",
    "drift.detected": "a monitor was breached",
    "skew.detected": "features served differ from those recomputed as of the same moment",
    "outcomes.settled": "truths that arrived were counted: used, late, and held in quarantine",
    "loop.decided": "the loop decided what follows an event",
    "trigger.raised": "a retraining was asked for: by schedule, new data, an objective, a person, or from outside",
    "trigger.suppressed": "a trigger led to no retraining, for the reason given",
    "loop.paused": "the loop was stopped: it decides nothing",
    "loop.resumed": "the loop was let go on",
    "incident.reported": "another system told of an incident, or of a business metric, with a signature",
    "incident.opened": "a release is taken back, by these numbers",
    "incident.closed": "an incident is over",
    "notify.failed": "somebody could not be told of an event",
    "alert.raised": "something waits for a person",
    "journal.pruned": "old segments of a worker's journal were deleted by retention",
    "journal.erased": "records of the journal were blanked for good",
    "clock.set": "the data clock was moved",
    "key.added": "an API key was made",
    "key.revoked": "an API key was given its end",
    "version.wished": "a version was asked to be kept warm",
}


@dataclass(frozen=True)
class Event:
    """A fact: what happened, to which model and version, by whom, why, with which evidence (digests and numbers).

    ``time`` is the project's clock; ``recorded`` the wall clock when the authority wrote it, which sets it.
    """

    kind: str
    time: datetime
    actor: str
    model: str = ""
    version: int | None = None
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    recorded: datetime | None = None


def sentence(event: Event) -> str:
    """What happened in one line for people: the reason given, else the numbers that say it.

    >>> sentence(
    ...     Event(
    ...         "data.ingested",
    ...         datetime(2024, 1, 31),
    ...         "ana",
    ...         evidence={"table": "users", "rows": 7043, "quarantined": 2},
    ...     )
    ... )
    'users: 7,043 rows, 2 in quarantine'
    """
    known = event.evidence
    if event.kind == "data.ingested" and {"table", "rows", "quarantined"} <= known.keys():
        said = f"{known['table']}: {known['rows']:,} rows, {known['quarantined']} in quarantine"
    elif event.kind == "version.gated" and "failed" in known:
        said = "passed" if not known["failed"] else "not passed: " + ", ".join(known["failed"])
    elif event.kind == "key.added" and {"key", "scopes"} <= known.keys():
        said = f"{known['key']} may {', '.join(known['scopes'])}"
    elif "run" in known or "run" in event.kind:
        said = f"run {str(known.get('run', ''))[:12]}, bundle {str(known.get('bundle', ''))[:12]}"
    else:
        said = ""
    return event.reason or said


def check_line(text: str, what: str) -> str:
    """The text, which goes into the ledger as somebody gave it. Raises InvalidInput when it holds a line's end or another control character:
    shown to people it could pass for a row of its own, or steer their terminal.

    >>> check_line("prices changed", "why")
    'prices changed'
    """
    for character in text:
        if unicodedata.category(character) in _CONTROL:
            raise InvalidInput(f"{what} holds the control character {character!a}", cure="write it in one line")
    return text


_CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Control characters, halves of a pair, and what ends a line or a paragraph."""


@dataclass(frozen=True)
class LedgerRow:
    """An event at its place in the chain; ``hash`` covers the previous hash, the sequence number and the event."""

    sequence: int
    event: Event
    previous: str
    hash: str


def chain_hash(previous: str, sequence: int, event_bytes: bytes) -> str:
    """SHA-256 (hex) of a ledger row."""
    return hashlib.sha256(f"{previous}\n{sequence}\n".encode() + event_bytes).hexdigest()


def head_of(row: LedgerRow) -> str:
    """What to note elsewhere of the newest row: with it, a tail cut off or a chain written anew is found.

    >>> head_of(LedgerRow(7, Event("clock.set", datetime(2024, 1, 31), "ana"), "", "ab12"))
    '7:ab12'
    """
    return f"{row.sequence}:{row.hash}"


def broken_at(rows: Iterable[LedgerRow], head: str = "") -> int | None:
    """The sequence number of the first row that does not follow from the one before, or None. O(rows).

    With a ``head`` noted earlier (:func:`head_of`) also the row it names when that is missing or another. Raises InvalidInput for a head
    that is none.
    """
    noted, _, noted_hash = head.partition(":")
    if head and not (noted.isdecimal() and noted_hash):
        raise InvalidInput(f"{head!r} is not a ledger head", cure="give what `ecluse history --head` printed")
    previous, expected = "", 1
    for row in rows:
        if (
            row.sequence != expected
            or row.previous != previous
            or row.hash != chain_hash(previous, expected, canonical(row.event))
            or (head and expected == int(noted) and row.hash != noted_hash)
        ):
            return expected
        previous, expected = row.hash, expected + 1
    return expected if head and int(noted) >= expected else None
