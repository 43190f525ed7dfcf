"""The journal after damage: tails cut at every byte, and random corruptions, all of them found and located."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_reader import read, verify
from ecluse.adapters.journal_segments import Problem
from ecluse.core.errors import Corrupt
from ecluse.core.frame import HEADER_BYTES, START, Damage, Frame, Head, decode_header, encode, walk

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
WORKER = "w1"


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name) / "journal"


def record(number: int) -> bytes:
    time = f"2024-01-31T00:00:{number // 10:02d}.{number % 10}00000Z"
    return json.dumps({"kind": "prediction", "time": time, "n": number, "padding": "é" * (number % 7)}).encode()


@dataclass(frozen=True)
class Written:
    """A whole journal in memory: per segment its frames, numbered from 1 over all segments."""

    segments: dict[str, list[bytes]]
    head: Head

    def numbered(self) -> list[tuple[int, str, int, bytes]]:
        """Sequence, segment, offset and bytes of every frame."""
        found, sequence = [], 0
        for name, frames in self.segments.items():
            offset = 0
            for frame in frames:
                sequence += 1
                found.append((sequence, name, offset, frame))
                offset += len(frame)
        return found


def make(root: Path, count: int, segment_bytes: int) -> Written:
    with Journal.open(root, WORKER, durability="process", segment_bytes=segment_bytes) as journal:
        for number in range(1, count + 1):
            journal.append(record(number))
        head = journal.head
    segments = {}
    for path in sorted((root / WORKER).glob("*.seg")):
        data = path.read_bytes()
        with path.open("rb") as stream:
            segments[path.name] = [data[each.offset : each.end] for each in walk(stream) if isinstance(each, Frame)]
    return Written(segments, head)


def lay_out(root: Path, segments: dict[str, bytes]) -> None:
    directory = root / WORKER
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    for name, data in segments.items():
        (directory / name).write_bytes(data)


def numbers(root: Path, problems: list[Problem] | None = None) -> list[int]:
    return [each["n"] for each in read(root, problems=problems)]


def cuts(written: Written) -> Iterator[tuple[dict[str, bytes], int, int]]:
    """Every cut inside the last three records and of the last segment: files, whole records, torn bytes."""
    names = list(written.segments)
    total = len(written.numbered())
    for name in names[-2:]:
        before = {each: b"".join(written.segments[each]) for each in names if each < name}
        whole_before = sum(len(written.segments[each]) for each in before)
        frames = written.segments[name]
        data = b"".join(frames)
        ends = [sum(map(len, frames[: index + 1])) for index in range(len(frames))]
        for at in range(len(data) + 1):
            whole = sum(end <= at for end in ends)
            if whole_before + whole >= total - 3:
                torn = at - max([0, *(end for end in ends if end <= at)])
                yield before | {name: data[:at]}, whole_before + whole, torn


@pytest.mark.parametrize("segment_bytes", [10_000, 350])
def test_a_cut_at_every_byte_keeps_all_whole_records_and_quarantines_the_rest(root: Path, segment_bytes: int) -> None:
    written = make(root, 8, segment_bytes)
    tried = 0
    for files, whole, torn in cuts(written):
        lay_out(root, files)
        newest = max(files)
        assert numbers(root) == list(range(1, whole + 1))  # a reader beside a live writer sees this
        with Journal.open(root, WORKER, durability="process") as journal:
            assert (journal.head.sequence, journal.recovered_bytes, journal.problems) == (whole, torn, ())
            assert journal.append(record(whole + 1)) == whole + 1
        quarantine = root / WORKER / f"{newest}.quarantine-1"
        assert quarantine.exists() == bool(torn)
        if torn:
            assert quarantine.read_bytes() == files[newest][len(files[newest]) - torn :]
        assert numbers(root) == list(range(1, whole + 2))
        assert verify(root) == []
        tried += 1
    assert tried > 350


def test_a_torn_tail_written_after_glues_two_records_and_is_found_out(root: Path) -> None:
    """The planted defect: a writer that goes on behind a torn tail without cutting it off."""
    written = make(root, 4, 10_000)
    (name,) = written.segments
    data = b"".join(written.segments[name])
    half = len(written.segments[name][-1]) // 2
    third = decode_header(written.segments[name][2][:HEADER_BYTES])
    assert third is not None
    follower, _ = encode(Head(3, third.hash), record(4), bytes(16))
    lay_out(root, {name: data[:-half] + follower})
    problem = verify(root)[0]
    assert (problem.sequence, problem.offset) == (4, len(data) - len(written.segments[name][-1]))
    with pytest.raises(Corrupt):
        numbers(root)


def test_a_second_torn_tail_does_not_overwrite_the_first(root: Path) -> None:
    make(root, 2, 10_000)
    path = root / WORKER / "00000001.seg"
    for tail in (b"EJ1\n first", b"EJ1\n second"):
        with path.open("ab") as stream:
            stream.write(tail)
        Journal.open(root, WORKER, durability="process").close()
    kept = [path.with_name(f"{path.name}.quarantine-{number}").read_bytes() for number in (1, 2)]
    assert kept == [b"EJ1\n first", b"EJ1\n second"]
    assert numbers(root) == [1, 2]


def test_a_torn_tail_reported_by_verify_is_located(root: Path) -> None:
    written = make(root, 3, 10_000)
    sequence, name, offset, frame = written.numbered()[-1]
    data = b"".join(written.segments[name])
    lay_out(root, {name: data[: offset + len(frame) // 2]})
    (problem,) = verify(root)
    assert (problem.segment, problem.offset, problem.sequence) == (name, offset, sequence)
    assert "stops short" in problem.what


def test_damage_with_whole_records_behind_it_stays_in_place_and_is_reported_at_opening(root: Path) -> None:
    written = make(root, 6, 10_000)
    data = bytearray(b"".join(written.segments["00000001.seg"]))
    _, _, offset, frame = written.numbered()[2]
    data[offset + len(frame) - 1] ^= 1
    lay_out(root, {"00000001.seg": bytes(data)})
    with Journal.open(root, WORKER, durability="process") as journal:
        assert journal.recovered_bytes == 0
        assert [(each.offset, each.sequence) for each in journal.problems] == [(offset, 3)]
        assert journal.append(record(7)) == 7
    assert (root / WORKER / "00000001.seg").read_bytes()[: len(data)] == data
    with pytest.raises(Corrupt, match="record 3"):
        numbers(root)
    problems: list[Problem] = []
    assert numbers(root, problems) == [1, 2, 4, 5, 6, 7]
    assert problems == verify(root)


def test_a_segment_without_a_single_whole_record_is_quarantined_whole(root: Path) -> None:
    written = make(root, 6, 350)
    names = list(written.segments)
    files = {each: b"".join(written.segments[each]) for each in names}
    garbage = b"\x00" * 500
    lay_out(root, files | {names[-1]: garbage})
    kept = sum(len(written.segments[each]) for each in names[:-1])
    with Journal.open(root, WORKER, durability="process") as journal:
        assert (journal.head.sequence, journal.recovered_bytes) == (kept, 500)
        journal.append(record(kept + 1))
    assert numbers(root) == list(range(1, kept + 2))
    assert (root / WORKER / f"{names[-1]}.quarantine-1").read_bytes() == garbage


# ---------------------------------------------------------------- random corruptions


@dataclass(frozen=True)
class Corruption:
    """Files after a corruption, where it must be located (segment, sequence), and the records it takes, at most."""

    files: dict[str, bytes]
    segment: str
    sequence: int
    lost: set[int]
    offset: int | None = None


def corrupt(written: Written, rng: random.Random) -> Corruption:
    kinds = [flip_bit, flip_bit, flip_header_bit, remove_record, swap_records, repeat_record, swap_segments]
    return rng.choice([*kinds, remove_segment, cut_segment, blank_header, forge_header, replace_record])(written, rng)


def join(segments: dict[str, list[bytes]]) -> dict[str, bytes]:
    return {name: b"".join(frames) for name, frames in segments.items()}


def edit(written: Written, at: int, frames: list[bytes]) -> dict[str, bytes]:
    """Put ``frames`` in the place of frame number ``at`` (from 0)."""
    edited: dict[str, list[bytes]] = {name: [] for name in written.segments}
    for index, (_, name, _, frame) in enumerate(written.numbered()):
        edited[name] += frames if index == at else [frame]
    return join(edited)


def flip(frame: bytes, bit: int) -> bytes:
    changed = bytearray(frame)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def flip_bit(written: Written, rng: random.Random, header: bool = False) -> Corruption:
    everything = written.numbered()
    at = rng.randrange(len(everything))
    sequence, name, offset, frame = everything[at]
    bit = rng.randrange(8 * (HEADER_BYTES if header else len(frame)))
    return Corruption(edit(written, at, [flip(frame, bit)]), name, sequence, {sequence}, offset)


def flip_header_bit(written: Written, rng: random.Random) -> Corruption:
    return flip_bit(written, rng, header=True)


def blank_header(written: Written, rng: random.Random) -> Corruption:
    everything = written.numbered()
    at = rng.randrange(len(everything))
    sequence, name, offset, frame = everything[at]
    blank = bytes(HEADER_BYTES) + frame[HEADER_BYTES:]
    return Corruption(edit(written, at, [blank]), name, sequence, {sequence}, offset)


def remove_record(written: Written, rng: random.Random) -> Corruption:
    everything = written.numbered()
    at = rng.randrange(len(everything))
    # Located where the next record stands, which after a segment's last one is the next segment.
    name = everything[min(at + 1, len(everything) - 1)][1]
    return Corruption(edit(written, at, []), name, everything[at][0], {everything[at][0]})


def repeat_record(written: Written, rng: random.Random) -> Corruption:
    at = rng.randrange(len(written.numbered()))
    sequence, name, offset, frame = written.numbered()[at]
    return Corruption(edit(written, at, [frame, frame]), name, sequence + 1, set(), offset + len(frame))


def swap_records(written: Written, rng: random.Random) -> Corruption:
    name = rng.choice([name for name, frames in written.segments.items() if len(frames) > 1])
    frames = list(written.segments[name])
    first, second = sorted(rng.sample(range(len(frames)), 2))
    sequence, _, offset, _ = next(each for each in written.numbered() if each[3] == frames[first])
    frames[first], frames[second] = frames[second], frames[first]
    return Corruption(join(written.segments | {name: frames}), name, sequence, set(), offset)


def swap_segments(written: Written, rng: random.Random) -> Corruption:
    first, second = sorted(rng.sample(list(written.segments), 2))
    files = join(written.segments)
    files[first], files[second] = files[second], files[first]
    sequence = next(each[0] for each in written.numbered() if each[1] == first)
    return Corruption(files, first, sequence, set(), 0)


def remove_segment(written: Written, rng: random.Random) -> Corruption:
    names = list(written.segments)
    name = rng.choice(names)
    files = join(written.segments)
    del files[name]
    lost = {each[0] for each in written.numbered() if each[1] == name}
    # A missing newest segment leaves nothing behind it to miss it: it is located at the end of the one before.
    return Corruption(files, name if name != names[-1] else names[-2], min(lost), lost)


def cut_segment(written: Written, rng: random.Random) -> Corruption:
    files = join(written.segments)
    name = rng.choice(list(files))
    at = rng.randrange(len(files[name]))
    files[name] = files[name][:at]
    inside = [each for each in written.numbered() if each[1] == name]
    lost = {sequence for sequence, _, offset, frame in inside if offset + len(frame) > at}
    on_edge = at in {offset for _, _, offset, _ in inside}
    names = list(files)
    after = names[min(names.index(name) + 1, len(names) - 1)]
    return Corruption(files, after if on_edge else name, min(lost), lost)


def forge_header(written: Written, rng: random.Random) -> Corruption:
    """A record replaced together with a correct CRC and payload hash, by somebody who knows the format."""
    everything = written.numbered()
    at = rng.randrange(1, len(everything))
    sequence, name, _, frame = everything[at]
    forged, _ = encode(Head(sequence - 1, rng.randbytes(32)), record(90), frame[HEADER_BYTES : HEADER_BYTES + 16])
    return Corruption(edit(written, at, [forged]), name, sequence, {sequence})


def replace_record(written: Written, rng: random.Random) -> Corruption:
    """As before, and rightly chained to its predecessor: only what follows, or the noted head, can tell."""
    everything = written.numbered()
    at = rng.randrange(len(everything))
    head = START
    for _, _, _, frame in everything[:at]:
        _, head = encode(head, frame[HEADER_BYTES + 16 :], frame[HEADER_BYTES : HEADER_BYTES + 16])
    forged, _ = encode(head, record(91), rng.randbytes(16))
    following = everything[min(at + 1, len(everything) - 1)]
    return Corruption(edit(written, at, [forged]), following[1], following[0], {everything[at][0]})


@pytest.mark.parametrize("rounds", [300, pytest.param(1_000, marks=pytest.mark.nightly)])
def test_random_corruptions_are_all_detected_and_located_and_the_rest_is_readable(root: Path, rounds: int) -> None:
    written = make(root, 40, 1_000)
    assert len(written.segments) >= 5
    rng = random.Random(20240131)
    for round_ in range(rounds):
        corruption = corrupt(written, rng)
        lay_out(root, corruption.files)
        problems = verify(root, heads={WORKER: written.head})
        assert problems, (round_, corruption)
        first = problems[0]
        assert (first.segment, first.sequence) == (corruption.segment, corruption.sequence), (round_, problems)
        assert corruption.offset in (None, first.offset)
        readable = set(numbers(root, problems=[])) - {90, 91}
        assert readable == set(range(1, 41)) - corruption.lost, round_


def test_checksums_without_the_chain_would_miss_records_moved_removed_and_repeated(root: Path) -> None:
    """The planted defect: a check that looks at each record alone."""
    written = make(root, 40, 1_000)
    rng = random.Random(20240131)
    for corruption in (remove_record, repeat_record, swap_records, swap_segments, forge_header):
        lay_out(root, corruption(written, rng).files)
        items: list[Frame | Damage] = []
        for path in sorted((root / WORKER).glob("*.seg")):
            with path.open("rb") as stream:
                items += walk(stream)
        assert not any(isinstance(each, Damage) for each in items), corruption
        assert verify(root, heads={WORKER: written.head}), corruption


def test_only_a_noted_head_shows_records_missing_at_the_very_end_or_a_chain_written_anew(root: Path) -> None:
    written = make(root, 6, 10_000)
    *rest, last = written.segments["00000001.seg"]
    lay_out(root, {"00000001.seg": b"".join(rest)})
    assert verify(root) == []
    (problem,) = verify(root, heads={WORKER: written.head})
    assert (problem.sequence, problem.offset) == (6, len(b"".join(rest)))

    lay_out(root, {})
    make(root, 6, 10_000)  # other salts, so other hashes
    assert verify(root) == []
    (problem,) = verify(root, heads={WORKER: written.head})
    assert "written anew" in problem.what
    assert last not in (root / WORKER / "00000001.seg").read_bytes()

    (problem,) = verify(root, heads={WORKER: Head(6, written.head.hash), "gone": Head(1, bytes(32))})[1:]
    assert (problem.worker, problem.what) == ("gone", "the worker's directory is missing")


def test_every_single_byte_of_a_small_journal_is_guarded(root: Path) -> None:
    written = make(root, 3, 10_000)
    (name,) = written.segments
    data = b"".join(written.segments[name])
    for at in range(len(data)):
        lay_out(root, {name: data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]})
        expected = next(each for each in reversed(written.numbered()) if each[2] <= at)
        problem = verify(root)[0]
        assert (problem.offset, problem.sequence) == (expected[2], expected[0])
