"""Keys and seals: made once, private, and only what a trusted key signed is believed."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.adapters.sealing import FILE, VARIABLE, KeySealer, load_sealer, verify
from ecluse.core.document import Signed
from ecluse.core.errors import Corrupt, InvalidInput, NotAllowed, NotFound

SEALER = KeySealer(bytes(range(32)))
# RFC 8032, section 7.1, test 1.
RFC_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
RFC_SIGNATURE = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"


def test_the_published_vector() -> None:
    sealer = KeySealer(RFC_SEED)
    assert sealer.sign("") == Signed(RFC_PUBLIC, RFC_SIGNATURE, "")


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_signed_is_verified(payload: str) -> None:
    assert verify(SEALER.sign(payload), ["00" * 32, SEALER.public_key]) == payload


@given(st.integers(0, 511), st.sampled_from(["signature", "payload", "key"]))
def test_one_changed_bit_is_found(bit: int, where: str) -> None:
    signed = SEALER.sign("ab" * 32)
    data = bytearray(bytes.fromhex(getattr(signed, where)))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    changed = replace(signed, **{where: data.hex()})
    with pytest.raises(Corrupt):
        verify(changed, [SEALER.public_key])
    with pytest.raises(Corrupt):
        verify(changed, [changed.key])


@pytest.mark.parametrize("signature", ["", "zz", "00" * 64, "é"])
def test_what_is_no_signature_is_corrupt(signature: str) -> None:
    with pytest.raises(Corrupt, match="signature"):
        verify(Signed(SEALER.public_key, signature, "x"), [SEALER.public_key])


def test_a_key_that_is_not_trusted_is_refused() -> None:
    with pytest.raises(Corrupt, match="not trusted"):
        verify(SEALER.sign("x"), [RFC_PUBLIC])
    with pytest.raises(Corrupt):
        verify(Signed("zz", "00", "x"), ["zz"])


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    keys = tmp_path / "home" / "keys"
    first = load_sealer(keys, create=True, environment={})
    assert load_sealer(keys, create=False, environment={}).public_key == first.public_key
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert [(each.name, stat.S_IMODE(each.stat().st_mode)) for each in keys.iterdir()] == [(FILE, 0o600)]
    assert (keys / FILE).read_text().strip() not in repr(first)


def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def load(_: int) -> str:
        barrier.wait()
        return load_sealer(tmp_path / "keys", create=True, environment={}).public_key

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load, range(8)))) == 1
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=VARIABLE):
        load_sealer(tmp_path, create=False, environment={})


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, RFC_SEED.hex())
    assert load_sealer(tmp_path, create=False).public_key == RFC_PUBLIC
    with pytest.raises(InvalidInput, match=VARIABLE):
        load_sealer(tmp_path, create=True, environment={VARIABLE: "secret"})


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    load_sealer(tmp_path, create=True, environment={})
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(NotAllowed, match="chmod 600"):
        load_sealer(tmp_path, create=True, environment={})


@pytest.mark.parametrize("content", [b"", b"abcd\n", b"\xff" * 64, b"g" * 64])
def test_a_broken_key_file_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidInput) as refused:
        load_sealer(tmp_path, create=True, environment={})
    assert not content.strip() or content.decode("latin-1").strip() not in str(refused.value)
    assert path.read_bytes() == content
