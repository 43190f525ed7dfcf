"""The published document: whole, private, never older."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ecluse.adapters.publisher_files import PublisherFiles
from ecluse.adapters.sealing import KeySealer
from ecluse.core.codec import canonical
from ecluse.core.document import FORMAT, Document, ServedModel, ServedVersion, Signed, read_document
from ecluse.core.errors import Conflict, Corrupt, Unavailable

SEALER = KeySealer(bytes(32))


def document(generation: int, threshold: float = 0.5) -> tuple[Document, Signed]:
    model = ServedModel(1, {"1": ServedVersion("b" * 64, threshold)})
    made = Document(FORMAT, "water", generation, None, {"churn": model}, (SEALER.public_key,))
    return made, SEALER.sign(canonical(made).decode())


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    publisher = PublisherFiles(tmp_path / "home")
    assert publisher.current() is None
    made, signed = document(3)
    publisher.publish(made, signed)
    assert publisher.current() == signed
    assert read_document(signed.payload) == made
    files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "home").iterdir()}
    assert files == {"published.json": 0o600, "published.lock": 0o600}


def test_an_older_generation_never_replaces_a_newer(tmp_path: Path) -> None:
    publisher = PublisherFiles(tmp_path)
    publisher.publish(*document(3))
    publisher.publish(*document(2))
    assert publisher.current() == document(3)[1]
    publisher.publish(*document(3))
    with pytest.raises(Conflict, match="generation 3"):
        publisher.publish(*document(3, threshold=0.6))
    assert publisher.current() == document(3)[1]


def test_many_publishers_leave_the_newest(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: PublisherFiles(tmp_path).publish(*document(each)), [5, 30, 2, 17, 30, 8, 29, 1] * 5))
    assert PublisherFiles(tmp_path).current() == document(30)[1]


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b'{"key": 1, "payload": "", "signature": ""}', b"\xff", DEEP], ids=range(6)
)
def test_garbage_is_corrupt_and_healed(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "published.json").write_bytes(garbage)
    publisher = PublisherFiles(tmp_path)
    with pytest.raises(Corrupt, match="publish it again"):
        publisher.current()
    publisher.publish(*document(1))
    assert publisher.current() == document(1)[1]


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = PublisherFiles(tmp_path)
    publisher.publish(*document(1))
    monkeypatch.setenv("ECLUSE_FAILPOINT", "publisher.before_rename=raise")
    with pytest.raises(Unavailable):
        publisher.publish(*document(2))
    monkeypatch.delenv("ECLUSE_FAILPOINT")
    assert publisher.current() == document(1)[1]
    publisher.publish(*document(2))
    assert publisher.current() == document(2)[1]


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"format": 1}',
        '{"format": 2}',
        '{"format":2,"project":"p","generation":1,"data_now":"soon","models":{},"trusted":[]}',
    ],
)
def test_a_payload_that_is_no_document_is_corrupt(payload: str) -> None:
    with pytest.raises(Corrupt):
        read_document(payload)
