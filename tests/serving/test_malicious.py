"""Bundles made to do harm: nothing of theirs runs, no file of ours is read for them, and what is not signed is not even parsed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.serving.house import House, bundle, environment, make_house, other_sealer

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.sealing import verify
from ecluse.core.bundle import Bundle
from ecluse.core.codec import canonical
from ecluse.core.document import ServedVersion
from ecluse.core.errors import EcluseError, NotFound
from ecluse.serving.scorers import Loaded, make_load
from ecluse.worker import open_scorer

# Told by the interpreter itself, from before the first import to the end of the process, while a bad bundle is loaded.
WATCH = """
import os, sys
out, within = os.open(os.environ["ECLUSE_TEST_AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), [""]
def watch(event, arguments):
    if event == "ecluse.corpus":
        within[0] = arguments[0]
    elif within[0] and (
        event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
        or event == "open" and str(arguments[0]).endswith(("secret.bin", "/etc/passwd"))
    ):
        os.write(out, f"{within[0]}: {event} {arguments[:2]}\\n".encode())
sys.addaudithook(watch)
"""


def run_corpus(folder: Path, defect: str) -> tuple[dict[str, tuple[str, int]], list[str], bool]:
    """What became of each bundle, what the interpreter saw, and whether anything of theirs ran."""
    watching, audit, canary = folder / "watch", folder / "audit.log", folder / "canary"
    watching.mkdir()
    (watching / "sitecustomize.py").write_text(WATCH)
    paths = [str(watching), str(ROOT), *(path for path in [environment().get("PYTHONPATH", "")] if path)]
    env = {**environment(), "PYTHONPATH": ":".join(paths), "ECLUSE_TEST_AUDIT": str(audit)}
    command = [sys.executable, "-m", "tests.serving.corpus", str(folder), str(canary), defect]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    told = {name: (why, count) for name, (why, count) in json.loads(done.stdout.splitlines()[-1]).items()}
    return told, audit.read_text().splitlines(), canary.exists()


def test_nothing_of_a_malicious_bundle_runs(tmp_path: Path) -> None:
    told, seen, ran = run_corpus(tmp_path, "none")
    assert len(told) >= 2 * 15
    assert {name for name, (why, _) in told.items() if not why} == set(), "loaded"
    unsigned = {name: count for name, (_, count) in told.items() if name.endswith("unsigned")}
    assert set(unsigned.values()) == {0}, "parsed before the seal was verified"
    assert (seen, ran) == ([], False)


def test_a_loader_that_unpickles_is_caught(tmp_path: Path) -> None:
    """The defect that turns the test above red."""
    _, seen, ran = run_corpus(tmp_path, "pickle")
    assert ran
    assert {"pickle.find_class", "os.system"} <= {line.split(": ")[1].split()[0] for line in seen}


# -- seals and bytes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def load(house: House, digest: str) -> Loaded:
    loader = make_load(house.bundles, verify, open_scorer)
    return loader("churn", 1, ServedVersion(digest, 0.5), [house.sealer.public_key])


def files_of(house: House, digest: str) -> list[Path]:
    """Every file of a bundle, and its seal."""
    root = house.home / "bundles"
    return [*sorted((root / digest).iterdir()), root / f"{digest}.beside" / "seal.json"]


@pytest.mark.parametrize("step", [997, pytest.param(3, marks=pytest.mark.nightly)])
def test_one_bit_anywhere_is_refused(house: House, step: int) -> None:
    """Any bit of any file, and of the seal; with a step of 1 every one of them."""
    digest = house.add(1, bundle())
    assert load(house, digest).number == 1
    for path in files_of(house, digest):
        data = path.read_bytes()
        for bit in range(0, 8 * len(data), step):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(changed)
            with pytest.raises(EcluseError):
                load(house, digest)
        path.write_bytes(data)
    assert load(house, digest).number == 1


@pytest.mark.skipif(not (shutil.which("openssl") or os.environ.get("CI")), reason="needs openssl")
def test_another_program_verifies_our_seals(house: House, tmp_path: Path) -> None:
    """OpenSSL takes key, signature and digest as they stand in the file, and refuses another digest."""
    digest = house.add(1, bundle())
    seal = json.loads(files_of(house, digest)[-1].read_bytes())
    assert seal["payload"] == digest
    prefix = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: a raw Ed25519 key, as its DER
    (tmp_path / "key.der").write_bytes(prefix + bytes.fromhex(seal["key"]))
    (tmp_path / "signature").write_bytes(bytes.fromhex(seal["signature"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.der", "-keyform", "DER", "-rawin"]
    told = []
    for payload in (digest, digest[::-1]):
        (tmp_path / "payload").write_text(payload)
        done = subprocess.run([*command, "-in", "payload", "-sigfile", "signature"], cwd=tmp_path, capture_output=True)
        told.append(done.returncode)
    assert told == [0, 1]


def _add(path: Path) -> None:
    (path.parent / "evil.json").write_bytes(b"{}")


def _rename(path: Path) -> None:
    path.rename(path.with_name("other.json"))


def _swap(path: Path) -> None:
    one, other = path.parent / "schema.json", path.parent / "smoke.json"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _link(path: Path) -> None:
    outside = path.parent.parent / "outside.json"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("change", [_add, Path.unlink, _rename, _swap, _link])
def test_files_added_removed_renamed_exchanged_or_linked_are_refused(
    house: House, change: Callable[[Path], object]
) -> None:
    digest = house.add(1, bundle())
    change(house.home / "bundles" / digest / "schema.json")
    with pytest.raises(EcluseError):
        load(house, digest)


def test_a_manifest_that_names_files_elsewhere_is_refused(house: House) -> None:
    made = bundle()
    evil = replace(made.manifest, files={**made.manifest.files, "../../keys/sealing.key": ("0" * 64, 1)})
    digest = Bundle(evil, made.files).digest
    house.bundles.put(Bundle(evil, made.files), house.sealer.sign(digest))
    with pytest.raises(EcluseError, match="other files"):
        load(house, digest)


def test_seals_of_others_are_refused(house: House) -> None:
    first, second = house.add(1, bundle(1.0)), house.add(2, bundle(0.5))
    beside = house.home / "bundles" / f"{first}.beside" / "seal.json"
    for seal in (
        other_sealer().sign(first),
        house.sealer.sign(second),
        replace(house.sealer.sign(second), payload=first),
        replace(other_sealer().sign(first), key=house.sealer.public_key),
    ):
        beside.write_bytes(canonical(seal))
        with pytest.raises(EcluseError):
            load(house, first)


def test_bundles_are_for_their_owner_alone(house: House) -> None:
    digest = house.add(1, bundle())
    paths = files_of(house, digest)
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in paths} == {0o700}
    assert (house.home / "bundles").stat().st_mode & 0o777 == 0o700


def race(house: House, digest: str, rounds: int, read: Callable[[BundlesFiles, str], bytes]) -> tuple[int, int]:
    """(good models read, others) while another process' worth of writes exchanges the model under the reader."""
    path, stop = house.home / "bundles" / digest / "model.onnx", threading.Event()
    good, evil = path.read_bytes(), bundle(-1.0).model_bytes
    temporary = path.with_name("model.tmp").parent.parent / "racer.tmp"

    def racer() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            temporary.write_bytes(evil if turn % 2 else good)
            temporary.replace(path)

    thread = threading.Thread(target=racer)
    thread.start()
    counts = [0, 0]
    try:
        for _ in range(rounds):
            try:
                counts[read(house.bundles, digest) != good] += 1
            except (EcluseError, NotFound):
                continue
    finally:
        stop.set()
        thread.join()
    return counts[0], counts[1]


def test_a_racer_between_verifying_and_loading_never_wins(house: House) -> None:
    digest = house.add(1, bundle())
    good, others = race(house, digest, 1_000, lambda bundles, name: bundles.get(name).model_bytes)
    assert good > 0
    assert others == 0


def test_a_reader_that_opens_again_loses_the_race(house: House) -> None:
    """The defect that turns the test above red."""
    digest = house.add(1, bundle())

    def verify_then_reopen(bundles: BundlesFiles, name: str) -> Any:
        bundles.get(name)
        return (bundles.directory(name) / "model.onnx").read_bytes()

    assert race(house, digest, 1_000, verify_then_reopen)[1] > 0
