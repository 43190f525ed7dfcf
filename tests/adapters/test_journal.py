"""The journal as written and read: round trips, order, bounds, erasure, the golden file, who may write."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import read, verify
from ecluse.core.errors import Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from ecluse.core.frame import HEADER_BYTES, START, Frame, encode, walk

GOLDEN = Path(__file__).parents[1] / "golden" / "journal"
DAY = datetime(2024, 1, 31, tzinfo=UTC)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name) / "journal"


def prediction(second: float, **more: Any) -> dict[str, Any]:
    at = (DAY + timedelta(seconds=second)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"kind": "prediction", "time": at, **more}


def to_bytes(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def write(root: Path, worker: str, records: list[dict[str, Any]], segment_bytes: int = 1 << 20) -> None:
    with Journal.open(root, worker, durability="process", segment_bytes=segment_bytes) as journal:
        for record in records:
            journal.append(to_bytes(record))


JSON = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("kind", "time")),
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.lists(st.lists(JSON, max_size=4), max_size=4), min_size=1, max_size=3),
    segment_bytes=st.integers(1, 2_000),
)
def test_what_is_written_over_batches_segments_and_restarts_is_read_back(
    starts: list[list[list[dict[str, Any]]]], segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        expected: list[dict[str, Any]] = []
        ids: list[str] = []
        head = START
        for batches in starts:
            with Journal.open(Path(name), "w-1", durability="power", segment_bytes=segment_bytes) as journal:
                assert journal.head == head
                for batch in batches:
                    records = [prediction(0, **each) for each in batch]
                    ids += [journal.next_id(ahead) for ahead in range(len(records))]
                    sequences = journal.append_many([to_bytes(each) for each in records])
                    assert sequences == list(range(len(expected) + 1, len(expected) + len(records) + 1))
                    expected += records
                head = journal.head
        assert list(read(Path(name))) == expected
        assert verify(Path(name), heads={"w-1": head}) == []
        assert len(set(ids)) == len(ids)


def test_prediction_id_is_worker_start_and_sequence(root: Path) -> None:
    with Journal.open(root, "w-1", durability="process") as journal:
        first, third = journal.next_id(), journal.next_id(2)
        assert first == f"w-1-{journal.start}-1"
        assert third.rsplit("-", 2) == ["w-1", journal.start, "3"]
        assert int(journal.start, 36) > 1_700_000_000_000_000
        journal.append(to_bytes(prediction(0)))
        assert journal.next_id().endswith("-2")
    with Journal.open(root, "w-1", durability="process") as again:
        assert again.next_id().endswith("-2")
        assert again.start != journal.start


def test_workers_are_merged_by_time_and_keep_their_own_order(root: Path) -> None:
    write(root, "a", [prediction(each, n=each) for each in (0, 2, 4.5, 4)])
    write(root, "b", [prediction(each, n=each) for each in (1, 3, 5)])
    assert [each["n"] for each in read(root)] == [0, 1, 2, 3, 4.5, 4, 5]
    assert [each["n"] for each in read(root, worker="b")] == [1, 3, 5]


def test_since_is_inclusive_until_is_not_and_fractions_compare_as_instants(root: Path) -> None:
    write(root, "a", [{"kind": "outcome", "time": "2024-01-31T00:00:01Z"}, prediction(1.5), prediction(2)])
    assert len(list(read(root, since=DAY + timedelta(seconds=1), until=DAY + timedelta(seconds=2)))) == 2
    assert len(list(read(root, since=DAY + timedelta(seconds=1.000001)))) == 2
    assert [each["kind"] for each in read(root, kind="outcome")] == ["outcome"]


def test_the_newest_of_one_model_are_its_own(root: Path) -> None:
    write(
        root, "a", [prediction(i, n=i, model="rare" if i % 10 == 0 else "busy") for i in range(100)], segment_bytes=900
    )
    write(root, "b", [prediction(each) for each in (200, 201)])  # of no model
    assert [each["n"] for each in read(root, model="rare", last=3)] == [70, 80, 90]
    assert [each["n"] for each in read(root, model="rare", kind="prediction")] == list(range(0, 100, 10))
    assert not list(read(root, model="none", last=3))


@pytest.mark.parametrize("last", [0, 1, 5, 17, 60, 100])
def test_last_is_the_end_of_the_whole(root: Path, last: int) -> None:
    write(root, "a", [prediction(2 * each, n=each) for each in range(40)], segment_bytes=900)
    write(root, "b", [prediction(5 * each, n=-each) for each in range(20)], segment_bytes=900)
    everything = list(read(root))
    assert len(everything) == 60
    assert list(read(root, last=last)) == (everything[-last:] if last else [])
    until = DAY + timedelta(seconds=50)
    before = list(read(root, until=until))
    assert list(read(root, until=until, last=last)) == (before[-last:] if last else [])


def test_last_leaves_old_segments_unread(root: Path) -> None:
    write(root, "a", [prediction(each) for each in range(40)], segment_bytes=900)
    (root / "a" / "00000001.seg").write_bytes(b"not a segment" * 20)
    assert len(list(read(root, last=3))) == 3
    with pytest.raises(Corrupt):
        list(read(root))


def test_an_erased_record_is_skipped_and_the_chain_stays_whole(root: Path) -> None:
    write(root, "a", [prediction(each, n=each) for each in range(5)])
    path = root / "a" / "00000001.seg"
    with path.open("rb") as stream:
        frame = list(walk(stream))[2]
    assert isinstance(frame, Frame)
    with path.open("rb+") as stream:
        stream.seek(frame.offset + HEADER_BYTES)
        stream.write(bytes(frame.header.length))
    assert verify(root) == []
    assert [each["n"] for each in read(root)] == [0, 1, 3, 4]
    write(root, "a", [prediction(9, n=9)])
    assert [each["n"] for each in read(root)] == [0, 1, 3, 4, 9]


def test_erasing_the_last_record_survives_a_restart(root: Path) -> None:
    write(root, "a", [prediction(0, n=0), prediction(1, n=1)])
    path = root / "a" / "00000001.seg"
    with path.open("rb") as stream:
        frame = list(walk(stream))[-1]
    assert isinstance(frame, Frame)
    with path.open("rb+") as stream:
        stream.seek(frame.offset + HEADER_BYTES)
        stream.write(bytes(frame.header.length))
    with Journal.open(root, "a", durability="process") as journal:
        assert journal.recovered_bytes == 0
        assert journal.append(to_bytes(prediction(2, n=2))) == 3
    assert [each["n"] for each in read(root)] == [0, 2]


def test_a_second_writer_is_refused_and_the_first_goes_on(root: Path) -> None:
    with Journal.open(root, "w1", durability="process") as journal:
        with pytest.raises(Conflict, match="writer already"):
            Journal.open(root, "w1", durability="process")
        script = Path(__file__).with_name("journal_process.py")
        other = subprocess.run([sys.executable, script, "sync", root, "process", "1"], capture_output=True, text=True)
        assert other.returncode != 0
        assert "Conflict" in other.stderr
        assert journal.append(to_bytes(prediction(0))) == 1
    with Journal.open(root, "w1", durability="process") as journal:
        assert journal.append(to_bytes(prediction(1))) == 2


def test_golden_file_reads_as_written_down_and_is_written_the_same_today() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert list(read(GOLDEN)) == [each["record"] for each in expected if not each["erased"]]
    assert verify(GOLDEN) == []
    head, written = START, {"00000001.seg": b"", "00000002.seg": b""}
    for each in expected:
        frame, head = encode(head, each["json"].encode(), bytes.fromhex(each["salt"]))
        if each["erased"]:
            frame = frame[:HEADER_BYTES] + bytes(len(frame) - HEADER_BYTES)
        written[each["segment"]] += frame
    assert written == {name: (GOLDEN / "golden-1" / name).read_bytes() for name in written}


def test_a_journal_not_yet_written_is_empty(root: Path) -> None:
    assert list(read(root)) == []
    assert verify(root) == []


def test_what_is_no_record_is_located_not_passed_on(root: Path) -> None:
    with Journal.open(root, "a", durability="process") as journal:
        for each in (b"{", b"[]", b'{"kind":"outcome"}', b'{"kind":"outcome","time":"2024-01-31T00:00:00"}', b"\xff"):
            journal.append(each)
        journal.append(to_bytes(prediction(0)))
    problems = verify(root)
    assert [each.sequence for each in problems] == [1, 2, 3, 4, 5]
    found: list[Any] = []
    assert list(read(root, problems=found)) == [prediction(0)]
    assert found == problems


def test_wrong_arguments_say_what_is_wrong(root: Path) -> None:
    for worker in ("", "W1", "a/b", "..", "a b"):
        with pytest.raises(InvalidInput, match="worker"):
            Journal.open(root, worker, durability="process")
    with pytest.raises(InvalidInput, match="durability"):
        Journal.open(root, "a", durability="never")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="time zone"):
        read(root, since=datetime(2024, 1, 31))  # noqa: DTZ001
    with pytest.raises(InvalidInput, match="last"):
        read(root, last=-1)
    with pytest.raises(NotFound):
        read(root, worker="nobody")
    with Journal.open(root, "a", durability="process") as journal:
        with pytest.raises(InvalidInput, match="0 bytes"):
            journal.append_many([to_bytes(prediction(0)), b""])
        assert journal.append_many([]) == []
        assert journal.append(to_bytes(prediction(0))) == 1
    with pytest.raises(Unavailable, match="closed"):
        journal.append(to_bytes(prediction(1)))
    assert len(list(read(root))) == 1


def test_a_path_that_is_a_file_is_unavailable(root: Path) -> None:
    root.write_text("in the way")
    with pytest.raises(Unavailable):
        Journal.open(root, "a", durability="process")


def test_the_files_are_the_owners_alone(root: Path) -> None:
    write(root, "a", [prediction(0)])
    assert (root / "a").stat().st_mode & 0o077 == 0
    assert (root / "a" / "00000001.seg").stat().st_mode & 0o077 == 0
