"""A fitted estimator as ``model.skops``, canonically: the same model gives the same bytes. The only importer of ``skops`` here.

As skops writes it, an archive holds object ids (memory addresses), the time of each file and sets in hash order. Here ids are numbered
in order of appearance, times are fixed and sets are sorted.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from ecluse.core.errors import Corrupt, Unsupported
from ecluse.core.trusted import TRUSTED_TYPES

_SCHEMA = "schema.json"
_WHERE = "training/skops_file"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(estimator: Any) -> bytes:
    """The canonical bytes. Raises Unsupported naming every type that is neither skops' nor ours to trust (a user's class, a function)."""
    import skops.io

    try:
        raw = skops.io.dumps(estimator)
        strange = sorted(set(skops.io.get_untrusted_types(data=raw)) - set(TRUSTED_TYPES))
    except Exception as error:  # skops raises whatever the object's own state functions raise
        raise Unsupported(
            f"{type(estimator).__name__} cannot be written: {error}",
            where=_WHERE,
            cure="use scikit-learn's own classes",
        ) from error
    if strange:
        cure = "express it with classes of scikit-learn, LightGBM or XGBoost, or export ONNX yourself"
        raise Unsupported(f"{', '.join(strange)} may not be in a bundle", where=_WHERE, cure=cure)
    return canonical(raw)


def load(data: bytes) -> Any:
    """The estimator. Raises Corrupt when the bytes are not one, or hold a type that is not trusted."""
    import skops.io

    try:
        return skops.io.loads(data, trusted=list(TRUSTED_TYPES))
    except Exception as error:  # a damaged archive fails anywhere in zip, JSON, numpy or skops
        raise Corrupt(f"model.skops cannot be read: {error}", where=_WHERE, cure="train again") from error


def canonical(raw: bytes) -> bytes:
    """The archive with numbered ids and files, sorted sets and fixed times. O(size)."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        tree = json.loads(archive.read(_SCHEMA))
        files = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    _sort_sets(tree)
    names: dict[str, str] = {}
    _renumber(tree, {}, names)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for old, new in names.items():
            archive.writestr(_entry(new), files[old])
        archive.writestr(_entry(_SCHEMA), json.dumps(tree, sort_keys=True, separators=(",", ":")))
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.create_system, entry.external_attr = 3, 0o600 << 16  # the same on every operating system
    return entry


def _sort_sets(node: Any) -> None:
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _sort_sets(child)
    if isinstance(node, dict) and node.get("__loader__") == "SetNode" and isinstance(node.get("content"), dict):
        node["content"]["content"].sort(key=lambda item: json.dumps(_without_ids(item), sort_keys=True))


def _without_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_ids(value) for key, value in node.items() if key != "__id__"}
    return [_without_ids(item) for item in node] if isinstance(node, list) else node


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str]) -> None:
    """Number ids and files in order of appearance; a JSON value gets a number of its own, since its sharing means nothing."""
    if isinstance(node, list):
        for item in node:
            _renumber(item, ids, names)
    if not isinstance(node, dict):
        return
    if "__id__" in node:
        old = node["__id__"] if not node.get("is_json") else -len(ids) - 1
        node["__id__"] = ids.setdefault(old, len(ids) + 1)
    if isinstance(file := node.get("file"), str):
        suffix = "." + file.rpartition(".")[2]
        node["file"] = names.setdefault(file, f"{len(names) + 1}{suffix}")
    for key in sorted(node):
        _renumber(node[key], ids, names)
