"""The library versions a recipe names: another version may train another model from the same data."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib.metadata import version

ALWAYS = ("ecluse", "numpy", "onnx", "polars", "scikit-learn", "scipy")


def library_versions(used: Collection[str]) -> dict[str, str]:
    """Versions of what every training stands on, and of the learners' packages ``used`` (by import name), sorted.

    >>> sorted(set(library_versions({"sklearn"})) - {"ecluse"})
    ['numpy', 'onnx', 'polars', 'scikit-learn', 'scipy']
    """
    found = {name: version(name) for name in ALWAYS}
    for name in used:
        loaded = sys.modules.get(name)  # asked of the module: XGBoost is distributed under several names
        if isinstance(told := getattr(loaded, "__version__", None), str) and name not in ("sklearn", *ALWAYS):
            found[name] = told
    return dict(sorted(found.items()))
