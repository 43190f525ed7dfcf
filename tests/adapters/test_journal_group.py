"""Group commit: what is acknowledged is kept, what is not is refused, and a disk that lags bounds what waits."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_group import GroupJournal, open_journal
from ecluse.adapters.journal_reader import read, verify
from ecluse.core.errors import InvalidInput, Unavailable

Kept = tuple[list[str], list[str]]


def record(identity: str) -> bytes:
    return b'{"kind":"prediction","time":"2024-01-31T00:00:00.000000Z","id":"%s"}' % identity.encode()


def run(root: Path, work: Callable[[GroupJournal], Coroutine[Any, Any, Any]], **bounds: Any) -> Any:
    journal = GroupJournal(Journal.open(root, "w1", durability="power", segment_bytes=4_000), **bounds)
    try:
        return asyncio.run(work(journal))
    finally:
        journal.close()


async def request(journal: GroupJournal, kept: Kept) -> None:
    """One record, acknowledged or refused."""
    mark, identity = journal.mark, journal.next_id()
    try:
        journal.append(record(identity))
        await journal.durable(mark)
        kept[0].append(identity)
    except Unavailable:
        kept[1].append(identity)


def ids(root: Path) -> list[str]:
    return [each["id"] for each in read(root)]


@contextmanager
def held_up(journal: GroupJournal) -> Iterator[threading.Event]:
    """The writing thread waits until the event is set, as for a disk that hangs."""
    release = threading.Event()
    journal._thread.submit(release.wait)
    try:
        yield release
    finally:
        release.set()


def test_many_requests_share_a_sync_and_each_is_kept(tmp_path: Path) -> None:
    kept: Kept = [], []

    async def client(journal: GroupJournal) -> None:
        for _ in range(20):
            await request(journal, kept)

    async def work(journal: GroupJournal) -> None:
        await asyncio.gather(*(client(journal) for _ in range(32)))
        assert journal.waiting == (0, 0)

    run(tmp_path, work)
    assert kept[1] == []
    assert sorted(kept[0]) == sorted(ids(tmp_path))
    assert len(set(kept[0])) == 640
    assert [each.rsplit("-", 1)[1] for each in ids(tmp_path)] == [str(each + 1) for each in range(640)]
    assert verify(tmp_path) == []
    assert len(list((tmp_path / "w1").glob("*.seg"))) > 3


def test_an_answer_waits_for_the_disk(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        with held_up(journal) as release:
            kept: Kept = [], []
            asked = asyncio.create_task(request(journal, kept))
            await asyncio.sleep(0.05)
            assert (kept, ids(tmp_path), journal.waiting[0]) == (([], []), [], 1)
            release.set()
            await asked
            assert kept[0] == ids(tmp_path)

    run(tmp_path, work)


def test_a_request_that_was_cancelled_disturbs_nobody(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        with held_up(journal) as release:
            kept: Kept = [], []
            asked = [asyncio.create_task(request(journal, kept)) for _ in range(3)]
            await asyncio.sleep(0.02)
            asked[1].cancel()
            release.set()
            await asyncio.gather(asked[0], asked[2])
            assert len(kept[0]) == 2
        assert len(ids(tmp_path)) == 3

    run(tmp_path, work)


def test_a_failed_sync_acknowledges_none_of_its_batch_nor_of_those_behind(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> Kept:
        kept: Kept = [], []
        await request(journal, kept)
        ours, theirs = socket.socketpair()  # takes writes and refuses fdatasync, as a dying disk does
        os.dup2(ours.fileno(), journal._journal._file)
        ours.close()
        with held_up(journal) as release:
            asked = [asyncio.create_task(request(journal, kept)) for _ in range(5)]
            await asyncio.sleep(0.02)
            asked += [asyncio.create_task(request(journal, kept)) for _ in range(5)]
            await asyncio.sleep(0.02)
            release.set()
            await asyncio.gather(*asked)
        assert "sync" in journal.refusal
        await request(journal, kept)
        assert theirs.recv(1 << 16).count(b"EJ1\n") == 5
        theirs.close()
        return kept

    kept = run(tmp_path, work)
    assert kept[0] == ids(tmp_path)
    assert (len(kept[0]), len(kept[1])) == (1, 11)


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> Kept:
        kept: Kept = [], []
        await request(journal, kept)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        try:
            await asyncio.gather(*(request(journal, kept) for _ in range(20)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert journal.refusal == ""
        await request(journal, kept)
        return kept

    kept = run(tmp_path, work)
    assert kept[0] == ids(tmp_path)
    assert (len(kept[0]), len(kept[1])) == (2, 20)
    assert verify(tmp_path) == []


@pytest.mark.parametrize("bounds", [{"queue_records": 8}, {"queue_bytes": 800}])
def test_what_waits_is_bounded(tmp_path: Path, bounds: dict[str, int]) -> None:
    async def work(journal: GroupJournal) -> Kept:
        kept: Kept = [], []
        with held_up(journal) as release:
            asked = [asyncio.create_task(request(journal, kept)) for _ in range(50)]
            await asyncio.sleep(0.02)
            assert 40 <= len(kept[1]) < 50
            release.set()
            await asyncio.gather(*asked)
        await request(journal, kept)
        return kept

    kept = run(tmp_path, work, **bounds)
    assert kept[0] == ids(tmp_path)


def test_more_at_once_than_may_wait_is_taken_when_nothing_waits(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        mark = journal.mark
        journal.append_many([record(str(each)) for each in range(20)])
        await journal.durable(mark)

    run(tmp_path, work, queue_records=8)
    assert len(ids(tmp_path)) == 20


def test_a_disk_that_hangs_is_told_and_recovers(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        kept: Kept = [], []
        with held_up(journal) as release:
            await asyncio.gather(*(request(journal, kept) for _ in range(3)))
            assert "not answered" in journal.refusal
            await request(journal, kept)
            assert (len(kept[0]), len(kept[1])) == (0, 4)
            release.set()
            await asyncio.sleep(0.05)
            assert journal.refusal == ""
        await request(journal, kept)
        assert len(kept[0]) == 1
        assert ids(tmp_path)[-1] == kept[0][0]  # the first three are there too: refused, not denied

    run(tmp_path, work, patience=0.05)


def test_a_call_that_began_before_a_loss_is_refused_even_if_it_asks_late(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        mark = journal.mark
        journal.append(record(journal.next_id()))
        os.close(journal._journal._file)
        await asyncio.sleep(0.05)
        with pytest.raises(Unavailable):
            await journal.durable(mark)

    run(tmp_path, work)
    assert ids(tmp_path) == []


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        journal.append_many([record("a"), record("b")])

    run(tmp_path, work)
    assert ids(tmp_path) == ["a", "b"]


def test_closing_writes_nothing_behind_a_batch_that_failed_meanwhile(tmp_path: Path) -> None:
    journal = GroupJournal(Journal.open(tmp_path, "w1", durability="power"))

    async def work() -> None:
        journal.append(record("x" * 3_000))
        await asyncio.sleep(0.02)  # it is on its way
        journal.append(record(journal.next_id()))

    with held_up(journal) as release:
        asyncio.run(work())
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
        try:
            release.set()
            journal.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert ids(tmp_path) == []


def test_wrong_records_and_a_closed_journal_are_refused(tmp_path: Path) -> None:
    async def work(journal: GroupJournal) -> None:
        with pytest.raises(InvalidInput, match="0 bytes"):
            journal.append_many([record("a"), b""])
        journal.close()
        journal.close()
        with pytest.raises(Unavailable, match="closed"):
            journal.append(record("b"))

    run(tmp_path, work)
    assert ids(tmp_path) == []


def test_durability_chooses_the_journal(tmp_path: Path) -> None:
    for durability, kind in (("process", Journal), ("power", GroupJournal)):
        journal = open_journal(tmp_path, "w1", durability)  # type: ignore[arg-type]
        assert type(journal) is kind
        journal.close()
