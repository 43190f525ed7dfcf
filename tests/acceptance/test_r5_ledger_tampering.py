"""R5: a ledger row edited, deleted, moved, put in, or the tail cut off: found each time, and located."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.loop.worlds import NOW

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.codec import canonical
from ecluse.core.errors import Corrupt, InvalidInput
from ecluse.core.event import Event, LedgerRow, broken_at, chain_hash, head_of

ROWS = 120
TAMPERINGS = 1_000


def chained(events: list[Event]) -> list[LedgerRow]:
    rows, previous = [], ""
    for number, event in enumerate(events, start=1):
        row = LedgerRow(number, event, previous, chain_hash(previous, number, canonical(event)))
        rows.append(row)
        previous = row.hash
    return rows


def fact(number: int) -> Event:
    return Event("version.promoted", NOW, "ana", "churn", number, f"reason {number}", {"from": number - 1})


LEDGER = chained([fact(number) for number in range(1, ROWS + 1)])
HEAD = head_of(LEDGER[-1])


def edit(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    event = rows[at].event
    changed = [
        replace(event, actor="eve"),
        replace(event, reason=event.reason + "!"),
        replace(event, version=(event.version or 0) + 1),
        replace(event, evidence={"from": None}),
        replace(event, kind="version.rolled_back"),
    ]
    rows[at] = replace(rows[at], event=dice.choice(changed))


def edit_hash(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    other = dice.randbytes(32).hex()
    rows[at] = replace(rows[at], hash=other) if dice.random() < 0.5 else replace(rows[at], previous=other)


def delete(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    del rows[at]


def delete_and_renumber(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    del rows[at]
    rows[at:] = [replace(row, sequence=row.sequence - 1) for row in rows[at:]]


def swap(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    other = dice.choice([place for place in range(len(rows)) if place != at])
    one, two = rows[at], rows[other]
    rows[at], rows[other] = replace(two, sequence=one.sequence), replace(one, sequence=two.sequence)


def put_in(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    rows.insert(at, replace(rows[at], event=fact(dice.randrange(10**6))))


def cut(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    del rows[at:]


def write_anew(rows: list[LedgerRow], at: int, dice: random.Random) -> None:
    """The most able forger: edits a row and chains everything after it again."""
    edit(rows, at, dice)
    rows[:] = chained([row.event for row in rows])


ALL: tuple[Callable[[list[LedgerRow], int, random.Random], None], ...] = (
    edit,
    edit_hash,
    delete,
    delete_and_renumber,
    swap,
    put_in,
    cut,
    write_anew,
)


def test_the_true_ledger_holds() -> None:
    assert broken_at(LEDGER) is None
    assert broken_at(LEDGER, HEAD) is None
    assert broken_at(LEDGER, head_of(LEDGER[4])) is None
    assert broken_at([]) is None


def test_the_format_of_a_row() -> None:
    """As docs/formats.md says, written out by hand: ledgers of today must still verify in ten years."""
    text = (
        '{"actor":"ana","evidence":{"from":0},"kind":"version.promoted","model":"churn","reason":"reason 1",'
        '"recorded":null,"time":"2024-01-31T00:00:00Z","version":1}'
    )
    assert LEDGER[0].hash == hashlib.sha256(f"\n1\n{text}".encode()).hexdigest()
    assert f"{ROWS}:{LEDGER[-1].hash}" == HEAD


def test_every_tampering_is_found_and_located() -> None:
    dice = random.Random(5)
    missed = []
    for number in range(TAMPERINGS):
        tamper, at = ALL[number % len(ALL)], dice.randrange(ROWS)
        rows = list(LEDGER)
        tamper(rows, at, dice)
        first = next((i for i, (a, b) in enumerate(zip(rows, LEDGER, strict=False), 1) if a != b), len(rows) + 1)
        # A chain written anew is consistent in itself: the noted head tells that it is another.
        expected = ROWS if tamper is write_anew else first
        if broken_at(rows, HEAD) != expected:
            missed.append((tamper.__name__, at))
    assert missed == []


def test_the_planted_defect_is_seen() -> None:
    """Without a head noted elsewhere a cut tail passes: that is why there is one."""
    assert broken_at(LEDGER[:50]) is None
    assert broken_at(LEDGER[:50], HEAD) == 51
    assert broken_at([], HEAD) == 1


@pytest.mark.parametrize("head", ["x", "7", ":ab", "7:", "-1:ab"])
def test_what_is_no_head_is_refused(head: str) -> None:
    with pytest.raises(InvalidInput, match="history --head"):
        broken_at(LEDGER, head)


def located(path: Path, head: str) -> int | None:
    """As a reader of the file finds out."""
    state, read = SqliteState(path), []
    try:
        for row in state.ledger():
            read.append(row)
    except Corrupt as error:
        return next(int(word) for word in error.what.split() if word.isdecimal())
    return broken_at(read, head)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "state.db"
    state = SqliteState(path)
    for number in range(1, 31):
        state.append(fact(number))
    state.close()
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    return path


EDITS = (
    "UPDATE ledger SET event = json_set(event, '$.actor', 'eve') WHERE sequence = ?",
    "UPDATE ledger SET event = event || ' ' WHERE sequence = ?",
    "UPDATE ledger SET event = '{}' WHERE sequence = ?",
    "UPDATE ledger SET event = '[]' WHERE sequence = ?",
    "UPDATE ledger SET event = json_set(event, '$.time', 'noon') WHERE sequence = ?",
    "UPDATE ledger SET hash = 'x' WHERE sequence = ?",
    "UPDATE ledger SET previous = '' WHERE sequence = ?",
    "DELETE FROM ledger WHERE sequence = ?",
    "DELETE FROM ledger WHERE sequence >= ?",
    "UPDATE ledger SET sequence = sequence + 100 WHERE sequence = ?",
)


@pytest.mark.parametrize("statement", EDITS)
@pytest.mark.parametrize("at", [2, 17, 30])
def test_tampering_with_the_file_is_found(file: Path, tmp_path: Path, statement: str, at: int) -> None:
    path = tmp_path / "state.db"
    shutil.copy(file, path)
    head = head_of(list(SqliteState(path).ledger())[-1])
    assert located(path, head) is None
    connection = sqlite3.connect(path, isolation_level=None)
    for trigger in ("ledger_is_not_edited", "ledger_is_not_cut"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute(statement, (at,))
    connection.close()
    assert located(path, head) == at
