"""Bundle: the servable form of a version, and its manifest; the digest covers only what recipe and snapshots determine (DESIGN §1).

Files: ``model.onnx`` or ``model.skops``, ``schema.json``, ``reference.json``, ``smoke.json``, ``parity.json``; seal, reports and card lie beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ecluse.core.codec import canonical, digest_bytes, from_plain
from ecluse.core.errors import Corrupt
from ecluse.core.recipe import Split
from ecluse.core.schema import Schema

FORMAT = 1
FILES = frozenset(
    {"model.onnx", "model.skops"}
    | {f"{name}.json" for name in ("schema", "declaration", "dataset", "recipe", "reference", "smoke", "parity")}
)
"""What a bundle may hold; a worker refuses one with anything else in it."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Manifest:
    """What the bundle holds (file name -> SHA-256 and size) and what it was made from."""

    format: int
    model: str
    scorer: Literal["onnx", "skops"]
    recipe: str
    dataset: str
    split: Split
    files: Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Bundle:
    """A manifest with the bytes it names. ``digest`` is the SHA-256 of the canonical manifest."""

    manifest: Manifest
    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The bundle's name."""
        return digest_bytes(canonical(self.manifest))

    @property
    def model_bytes(self) -> bytes:
        """The model itself."""
        return self.files[f"model.{self.manifest.scorer}"]

    @property
    def schema(self) -> Schema:
        """The parsed schema. Raises Corrupt."""
        return from_plain(Schema, self.document("schema.json"), where="schema.json")

    def document(self, name: str) -> dict[str, object]:
        """A JSON file of the bundle, parsed. Raises Corrupt."""
        try:
            value = json.loads(self.files[name])
        except (KeyError, ValueError):
            raise Corrupt(f"{name} of bundle {self.digest[:12]}", cure="restore the bundle or train again") from None
        assert isinstance(value, dict)
        return value


def make_bundle(
    *, model: str, scorer: Literal["onnx", "skops"], recipe: str, dataset: str, split: Split, files: Mapping[str, bytes]
) -> Bundle:
    """A bundle over these files."""
    names = {name: (digest_bytes(data), len(data)) for name, data in sorted(files.items())}
    return Bundle(Manifest(FORMAT, model, scorer, recipe, dataset, split, names), dict(files))


def open_bundle(expected: str, manifest_bytes: bytes, files: Mapping[str, bytes]) -> Bundle:
    """The bundle out of bytes read, with every digest checked on those very bytes. Raises Corrupt, never parses what does not match."""
    if digest_bytes(manifest_bytes) != expected:
        raise Corrupt(
            f"manifest of bundle {expected[:12]} does not match its digest", cure="restore the bundle or train again"
        )
    manifest = from_plain(Manifest, json.loads(manifest_bytes), where="manifest.json")
    if set(files) != set(manifest.files) or not all(_NAME.fullmatch(name) for name in files):
        raise Corrupt(
            f"bundle {expected[:12]} has other files than its manifest", cure="restore the bundle or train again"
        )
    for name, data in files.items():
        if (digest_bytes(data), len(data)) != manifest.files[name]:
            raise Corrupt(
                f"{name} of bundle {expected[:12]} does not match its digest", cure="restore the bundle or train again"
            )
    return Bundle(manifest, dict(files))
