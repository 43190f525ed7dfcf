"""Retention and erasure of the journal: what goes is gone, what stays is whole, and a forged start is found."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import heads, read, verify
from ecluse.adapters.sealing import KeySealer
from ecluse.core.codec import canonical
from ecluse.core.frame import Head
from ecluse.core.journal import Expired

DAY = datetime(2024, 1, 1, tzinfo=UTC)
SEALER, FORGER = KeySealer(bytes(32)), KeySealer(bytes(range(32)))


def record(day: float, **more: Any) -> bytes:
    at = (DAY + timedelta(days=day)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return json.dumps({"kind": "prediction", "time": at, "n": day, **more}).encode()


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name) / "journal"


def write(root: Path, worker: str, records: list[bytes], segment_bytes: int = 600) -> None:
    with Journal.open(root, worker, durability="process", segment_bytes=segment_bytes) as journal:
        for each in records:
            journal.append(each)


def drop(root: Path, before: float, sealer: KeySealer = SEALER) -> list[Expired]:
    archive = JournalArchive(root)
    expired = archive.expired(DAY + timedelta(days=before))
    for each in expired:
        archive.drop(each.start, sealer.sign(canonical(each.start).decode()))
    return expired


def days(root: Path) -> list[float]:
    return [each["n"] for each in read(root)]


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    segment_bytes=st.integers(200, 1_500),
)
def test_retention_drops_only_what_is_older_and_leaves_a_whole_journal(
    times: list[int], cuts: list[int], segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        root = Path(name)
        write(root, "w1", [record(each) for each in times], segment_bytes)
        kept = times
        for cut in cuts:
            drop(root, cut)
            after = days(root)
            gone = kept[: len(kept) - len(after)]
            assert [*gone, *after] == kept
            assert all(each < cut for each in gone)
            assert drop(root, cut) == []
            kept = [int(each) for each in after]
        noted = heads(root)
        assert verify(root, heads=noted, trusted=[SEALER.public_key]) == []
        write(root, "w1", [record(99)], segment_bytes)
        assert days(root) == [*kept, 99]
        assert verify(root, heads=noted, trusted=[SEALER.public_key]) == []


def test_each_worker_has_its_own_start_and_the_newest_segment_stays(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    write(root, "b", [record(each) for each in range(30, 40)])
    (expired,) = drop(root, 25)
    assert (expired.start.worker, expired.damaged) == ("a", 0)
    assert expired.records == expired.start.sequence
    assert len(list((root / "a").glob("*.seg"))) == 1
    assert days(root)[-10:] == list(range(30, 40))


def test_a_start_nobody_trusted_has_signed_is_a_problem(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    drop(root, 10, FORGER)
    assert verify(root) == []
    problems = verify(root, trusted=[SEALER.public_key])
    assert "not trusted" in problems[0].what
    assert problems[0].segment == "start.json"


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"key":"","signature":"","payload":"{}"}', "\udcff"])
def test_a_start_that_cannot_be_read_is_a_problem_and_reading_goes_on(root: Path, text: str) -> None:
    write(root, "a", [record(each) for each in range(20)])
    drop(root, 10)
    kept = days(root)
    (root / "a" / "start.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "start cannot be read" in verify(root)[0].what
    assert days(root) == kept


def test_segments_taken_away_beyond_the_signed_start_are_missed(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    (expired,) = drop(root, 8)
    (root / "a" / f"{expired.start.segment:08d}.seg").unlink()
    problems = verify(root, trusted=[SEALER.public_key])
    assert problems[0].what == "the segment is missing"
    assert problems[0].sequence == expired.start.sequence + 1


def test_retention_never_leaves_a_worker_without_a_segment_so_that_is_missed(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    noted = heads(root)
    drop(root, 8)
    for path in (root / "a").glob("*.seg"):
        path.unlink()
    (problem,) = verify(root, trusted=[SEALER.public_key])
    assert problem.what == "the segment is missing"
    assert "ends before" in verify(root, heads=noted, trusted=[SEALER.public_key])[-1].what


def test_a_head_noted_at_the_start_is_held_against_it(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    (expired,) = drop(root, 8)
    sequence = expired.start.sequence
    assert verify(root, heads={"a": Head(sequence, bytes.fromhex(expired.start.hash))}) == []
    assert "written anew" in verify(root, heads={"a": Head(sequence, bytes(32))})[0].what
    assert verify(root, heads={"a": Head(sequence - 1, bytes(32))}) == []


def test_killed_between_the_marker_and_the_deletion_the_rest_is_not_read_and_goes_next_time(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    before = {path: path.read_bytes() for path in (root / "a").glob("*.seg")}
    drop(root, 8)
    kept = days(root)
    for path, data in before.items():
        path.write_bytes(data)
    assert days(root) == kept
    assert verify(root, trusted=[SEALER.public_key]) == []
    drop(root, 12)
    assert len(list((root / "a").glob("*.seg"))) < len(before)
    assert verify(root, trusted=[SEALER.public_key]) == []


def test_damaged_segments_go_too_and_are_counted(root: Path) -> None:
    write(root, "a", [record(each) for each in range(20)])
    path = root / "a" / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (root / "a" / "00000001.seg.quarantine-1").write_bytes(b"torn")
    (expired,) = drop(root, 8)
    assert expired.damaged == 1
    assert list((root / "a").glob("*.quarantine-*")) == []
    assert verify(root) == []


def test_a_writer_begins_a_segment_each_day(root: Path) -> None:
    write(root, "a", [record(1)], 1 << 20)
    write(root, "a", [record(2)], 1 << 20)
    assert len(list((root / "a").glob("*.seg"))) == 1
    yesterday = time.time() - 86_400
    os.utime(root / "a" / "00000001.seg", (yesterday, yesterday))
    write(root, "a", [record(3), record(4)], 1 << 20)
    assert len(list((root / "a").glob("*.seg"))) == 2
    assert verify(root) == []


# ---------------------------------------------------------------- erasure


def test_erasure_takes_an_entity_and_its_outcomes_and_nothing_else(root: Path) -> None:
    with Journal.open(root, "a", durability="process", segment_bytes=900) as journal:
        for n in range(30):
            journal.append(record(n, entity=f"u{n % 3}", request_id=f"r{n}"))
        for n in (1, 2):
            journal.append(record(40 + n, kind="outcome", entity=None, request_id=f"r{n}"))
        journal.append(record(43, kind="outcome", entity="u1", request_id=None))
        archive = JournalArchive(root)
        places = archive.naming("u1")
        assert places == {"a": [*range(2, 31, 3), 31, 33]}
        assert archive.erase(places) == 12
        assert archive.erase(places) == 0
        assert archive.naming("u1") == {}
        journal.append(record(50, entity="u0"))
    assert [each["n"] for each in read(root)] == [*(n for n in range(30) if n % 3 != 1), 42, 50]
    assert verify(root) == []
    assert not any(b'"u1"' in path.read_bytes() for path in (root / "a").glob("*.seg"))


def test_what_a_writer_takes_back_is_not_overwritten(root: Path) -> None:
    """A frame seen and then truncated away: zeros behind the end would be found as a hole in the next record."""
    with Journal.open(root, "a", durability="process") as journal:
        journal.append(record(1, entity="u1"))
        size = journal._size
        journal.append(record(2, entity="u1"))
        places = JournalArchive(root).naming("u1")
        os.ftruncate(journal._file, size + 100)
        assert JournalArchive(root).erase(places) == 1
        os.ftruncate(journal._file, size)
    write(root, "a", [record(3)], 1 << 20)
    assert days(root) == [3]
    assert verify(root) == []


def test_quarantined_bytes_that_name_the_entity_are_told(root: Path) -> None:
    write(root, "a", [record(1, entity="u1")])
    (root / "a" / "00000001.seg.quarantine-1").write_bytes(b'EJ1\n..."entity":"u1"')
    (root / "a" / "00000001.seg.quarantine-2").write_bytes(b'EJ1\n..."entity":"u11"')
    assert JournalArchive(root).quarantined("u1") == ["a/00000001.seg.quarantine-1"]
