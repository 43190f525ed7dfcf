"""ONNX from the user: a file a model function returns, or an object that learns in its own way and exports ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ecluse.core.errors import InvalidInput


@dataclass(frozen=True)
class OnnxFile:
    """A model trained elsewhere: ``return OnnxFile("models/churn.onnx")``, a path from the project's root.

    It reads the encoded matrix, features by name: numbers as they are, booleans 0/1, categories by their position among the *declared*
    values sorted (training does not change them), -1 for another value, NaN for a missing one.
    """

    path: str

    def read(self, root: Path) -> bytes:
        """The file's bytes. Raises InvalidInput when it cannot be read."""
        try:
            return (root / self.path).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"{self.path}: {error.strerror}", where=str(root), cure="give a path from the project's root"
            ) from None


@runtime_checkable
class Exporter(Protocol):
    """Learns from the encoded matrix X float64 [n, F] and y (n,), and exports what it learnt; has ``predict_proba`` or ``predict``."""

    def fit(self, X: Any, y: Any) -> Any:
        """Learn."""
        ...

    def export_onnx(self) -> bytes:
        """The fitted model: one floating input [n, F], one floating output [n, K] or [n]."""
        ...
