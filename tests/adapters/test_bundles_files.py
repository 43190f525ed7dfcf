"""Bundles on disk: whole or absent, private, and every byte checked."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.loop.worlds import bundle_of

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.sealing import KeySealer
from ecluse.core.bundle import Bundle
from ecluse.core.errors import Corrupt, InvalidInput, NotFound

SEALER = KeySealer(bytes(32))
ONE = bundle_of("one")


@pytest.fixture
def bundles(tmp_path: Path) -> BundlesFiles:
    return BundlesFiles(tmp_path / "home" / "bundles")


def put(bundles: BundlesFiles, bundle: Bundle = ONE) -> str:
    bundles.put(bundle, SEALER.sign(bundle.digest))
    return bundle.digest


def test_a_bundle_is_read_back(bundles: BundlesFiles, tmp_path: Path) -> None:
    digest = put(bundles)
    assert bundles.get(digest) == ONE
    assert bundles.seal(digest) == SEALER.sign(digest)
    for path in (tmp_path / "home").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_same_again_changes_nothing(bundles: BundlesFiles) -> None:
    digest = put(bundles)
    before = {each: each.stat().st_ino for each in bundles.directory(digest).parent.rglob("*")}
    put(bundles)
    assert {each: each.stat().st_ino for each in bundles.directory(digest).parent.rglob("*")} == before


def test_a_seal_of_another_is_refused(bundles: BundlesFiles) -> None:
    with pytest.raises(InvalidInput, match="seal"):
        bundles.put(ONE, SEALER.sign(bundle_of("two").digest))
    with pytest.raises(NotFound):
        bundles.get(ONE.digest)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _link(path: Path) -> None:
    target = path.with_name("target")
    path.rename(path.parent.parent / "target")
    path.symlink_to(path.parent.parent / "target")
    assert not target.exists()


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
@pytest.mark.parametrize("damage", [_cut, Path.unlink, _link, lambda path: path.write_bytes(b"")])
def test_damage_is_found_and_healed(bundles: BundlesFiles, name: str, damage: Callable[[Path], object]) -> None:
    digest = put(bundles)
    damage(bundles.directory(digest) / name)
    with pytest.raises(Corrupt):
        bundles.get(digest)
    put(bundles)
    assert bundles.get(digest) == ONE


def test_a_file_too_many_is_corrupt(bundles: BundlesFiles) -> None:
    digest = put(bundles)
    (bundles.directory(digest) / "extra.bin").write_bytes(b"")
    with pytest.raises(Corrupt, match="other files"):
        bundles.get(digest)


@pytest.mark.parametrize("text", ["", "{}", '{"key":"a","payload":"b","signature":"c"}'])
def test_a_broken_seal_is_corrupt(bundles: BundlesFiles, text: str) -> None:
    digest = put(bundles)
    (bundles.beside(digest) / "seal.json").write_text(text)
    with pytest.raises(Corrupt, match="seal"):
        bundles.seal(digest)


def test_a_deleted_bundle_says_so_and_what_lies_beside_stays(bundles: BundlesFiles) -> None:
    bundles.delete(ONE.digest)
    digest = put(bundles)
    bundles.write_beside(digest, "card.md", b"# card")
    for _ in range(2):
        bundles.delete(digest)
    for read in (bundles.get, bundles.seal):
        with pytest.raises(NotFound):
            read(digest)
    with pytest.raises(NotFound, match="pruned"):
        bundles.get(digest)
    assert bundles.read_beside(digest, "card.md") == b"# card"


def test_files_beside(bundles: BundlesFiles) -> None:
    digest = "a" * 64
    with pytest.raises(NotFound):
        bundles.read_beside(digest, "roc.png")
    for data in (b"1", b"2"):
        assert bundles.write_beside(digest, "roc.png", data).read_bytes() == data
    assert bundles.read_beside(digest, "roc.png") == b"2"


def test_of_files_called_alike_the_newest_are_kept(bundles: BundlesFiles) -> None:
    digest = "a" * 64
    for name in ("card.md", "monitored.1.json"):
        bundles.write_beside(digest, name, b"")
    for number in range(5):
        written = bundles.write_beside(digest, f"monitor.{number}.json", b"", keep=2)
        os.utime(
            written, ns=(number, number)
        )  # the names say nothing, and files may be written within a tick of the clock
    there = sorted(each.name for each in bundles.beside(digest).iterdir())
    assert there == ["card.md", "monitor.3.json", "monitor.4.json", "monitored.1.json"]
    bundles.write_beside(digest, "monitor.0.json", b"", keep=2)
    assert bundles.read_beside(digest, "monitor.0.json") == b"", "what was just written stays"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a\0b", "seal.json", "x" * 200])
def test_only_plain_names_lie_beside(bundles: BundlesFiles, name: str) -> None:
    with pytest.raises(InvalidInput):
        bundles.write_beside("a" * 64, name, b"")


@pytest.mark.parametrize("digest", ["", "..", "a" * 63, "A" * 64, "/etc", "a" * 64 + "\n"])
def test_only_digests_are_looked_up(bundles: BundlesFiles, digest: str) -> None:
    for act in (bundles.get, bundles.seal, bundles.delete):
        bundles.write_beside("a" * 64, "x", b"")
        with pytest.raises(InvalidInput):
            act(digest)


def test_many_writers_and_readers(bundles: BundlesFiles) -> None:
    barrier = threading.Barrier(6)

    def work(_: int) -> None:
        barrier.wait()
        put(bundles)
        assert bundles.get(ONE.digest) == ONE

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert not list(bundles.directory(ONE.digest).parent.glob(".tmp-*"))


def test_what_a_killed_writer_left_is_swept(bundles: BundlesFiles) -> None:
    put(bundles)
    left = bundles.directory(ONE.digest).parent / ".tmp-left"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    put(bundles, bundle_of("two"))
    assert not left.exists()


FULL = """
import sys
from pathlib import Path
from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.core.errors import Unavailable
from tests.adapters.test_bundles_files import SEALER, bundle_of
from tests.adapters.test_bundles_files import starve, feed

bundles = BundlesFiles(Path(sys.argv[1]))
bundle = bundle_of("x" * 100_000)
starve(50_000)
try:
    bundles.put(bundle, SEALER.sign(bundle.digest))
except Unavailable as error:
    assert error.cure
else:
    raise SystemExit("it was stored")
feed()
assert not bundles.directory(bundle.digest).exists()
bundles.put(bundle, SEALER.sign(bundle.digest))
assert bundles.get(bundle.digest) == bundle
assert not list(bundles.directory(bundle.digest).parent.glob(".tmp-*"))
"""


def starve(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def feed() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_full_disk_stores_nothing(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "b")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
