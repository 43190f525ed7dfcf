"""Ed25519 keys: sign what we publish, verify what we serve. The one file that imports cryptography.

A private key is a 32-byte seed in hex: from ``ECLUSE_SEALING_KEY``, or the file ``sealing.key`` (0600) in a directory of mode 0700.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ecluse.adapters.files import disk, make_directory, read_file, sync_directory, write_new
from ecluse.core.document import Signed
from ecluse.core.errors import Corrupt, InvalidInput, NotAllowed, NotFound

VARIABLE = "ECLUSE_SEALING_KEY"
FILE = "sealing.key"
SEED_BYTES = 32


class KeySealer:
    """Signs with one key, and never shows it.

    >>> sealer = KeySealer(bytes(32))
    >>> verify(sealer.sign("a bundle's digest"), [sealer.public_key])
    "a bundle's digest"
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidInput(f"a sealing key has {SEED_BYTES} bytes, not {len(seed)}", cure="give 64 hex digits")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._private.public_key().public_bytes_raw().hex()

    def sign(self, payload: str) -> Signed:
        """A signature over the payload's UTF-8 bytes."""
        return Signed(self.public_key, self._private.sign(payload.encode()).hex(), payload)

    def __repr__(self) -> str:
        return f"KeySealer(public_key={self.public_key!r})"


def verify(signed: Signed, trusted: Sequence[str]) -> str:
    """The payload, when a trusted key signed these very bytes. Raises Corrupt."""
    if signed.key not in trusted:
        raise Corrupt(
            f"signed by a key that is not trusted: {signed.key[:16]}…",
            cure="sign it again with the profile's sealing key",
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key))
        signature = bytes.fromhex(signed.signature)
        if signature.hex() != signed.signature:  # one signature is written in one way
            raise ValueError
        key.verify(signature, signed.payload.encode())
    except (InvalidSignature, ValueError):
        raise Corrupt(
            "the signature does not match", where=f"key {signed.key[:16]}…", cure="restore the signed bytes"
        ) from None
    return signed.payload


def load_sealer(directory: Path, *, create: bool, environment: Mapping[str, str] | None = None) -> KeySealer:
    """The profile's key: the environment's, else the file's; made when there is none and ``create``.

    Raises NotFound (no key, and none may be made), NotAllowed (a key others may read), InvalidInput (not a key), Unavailable.
    """
    given = (os.environ if environment is None else environment).get(VARIABLE)
    if given:
        return KeySealer(_seed(given, VARIABLE))
    path = directory / FILE
    if not path.exists():
        if not create:
            raise NotFound(
                "no sealing key", where=str(path), cure=f"put the profile's key there (mode 0600) or in {VARIABLE}"
            )
        _create(path)
    with disk(path):
        mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise NotAllowed(
            f"the sealing key is open to others (mode {mode:04o})", where=str(path), cure=f"chmod 600 {path}"
        )
    return KeySealer(_seed(read_file(path).decode("ascii", "replace"), str(path)))


def _create(path: Path) -> None:
    make_directory(path.parent)
    temporary = path.with_name(f".{FILE}.{secrets.token_hex(8)}.tmp")
    with disk(path):
        write_new(temporary, secrets.token_bytes(SEED_BYTES).hex().encode() + b"\n")
        try:
            os.link(temporary, path)  # unlike a rename, never over the key another process has just made
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_directory(path.parent)


def _seed(text: str, where: str) -> bytes:
    try:
        seed = bytes.fromhex(text.strip())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise InvalidInput("this is not a sealing key", where=where, cure="give 64 hex digits (32 random bytes)")
    return seed
