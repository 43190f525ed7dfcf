"""The published document: the one signed thing workers follow. Which versions may serve, which is champion, thresholds, the clock, keys.

A seal says what a bundle *is*; this document says that it *may serve*. Workers refuse a lower generation or a bad signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ecluse.core.access import KeyGrant
from ecluse.core.codec import from_plain
from ecluse.core.errors import Corrupt, DeclarationError, InvalidInput

FORMAT = 2


@dataclass(frozen=True)
class ServedVersion:
    """A version a worker keeps warm: its bundle and decision threshold."""

    bundle: str
    threshold: float | None


@dataclass(frozen=True)
class ServedModel:
    """A model's champion and the versions to keep warm (champion first, then what a rollback would choose)."""

    champion: int | None
    versions: Mapping[str, ServedVersion] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """``generation`` grows with every change. ``data_now`` is the project's clock when it runs on data, else None.
    ``trusted`` are Ed25519 public keys (hex) whose seals may serve; ``keys`` who may call, revoked ones too.
    """

    format: int
    project: str
    generation: int
    data_now: datetime | None
    models: Mapping[str, ServedModel]
    trusted: tuple[str, ...]
    keys: tuple[KeyGrant, ...] = ()


@dataclass(frozen=True)
class Signed:
    """Bytes with an Ed25519 signature (hex) by ``key`` (public, hex) over them: how the document and seals lie on disk."""

    key: str
    signature: str
    payload: str


def read_document(payload: str) -> Document:
    """The document out of a payload whose signature was checked. Raises Corrupt.

    >>> read_document('{"format": 9}')
    Traceback (most recent call last):
    ecluse.core.errors.Corrupt: the published document is of format 9, this Écluse reads 2; ...
    """
    cure = "publish it again with the Écluse that serves: any release command does"
    try:
        value = json.loads(payload)
        found = value["format"]
        if found == FORMAT:
            return from_plain(Document, value, where="published document")
    except (ValueError, KeyError, TypeError, DeclarationError, InvalidInput) as error:
        raise Corrupt(f"the published document cannot be read: {error}", cure=cure) from None
    raise Corrupt(f"the published document is of format {found}, this Écluse reads {FORMAT}", cure=cure)
