"""Écluse: the public nouns of a project file. Importing this costs the standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecluse.core.contract import Boolean, Category, Instant, Integer, Number, Rule, Table, Text
from ecluse.core.entity import Entity
from ecluse.core.errors import EcluseError
from ecluse.core.expression import AS_OF, col, feature
from ecluse.core.model import Choice, Label, Range, model
from ecluse.core.view import FeatureView, count, distinct, highest, last, lowest, mean, total

if TYPE_CHECKING:
    from ecluse.app import App

__version__ = "0.1.0"

__all__ = [
    "AS_OF", "Boolean", "Category", "Choice", "EcluseError", "Entity", "FeatureView", "Instant", "Integer", "Label", "Number", "Range",
    "Rule", "Table", "Text", "__version__", "col", "count", "distinct", "feature", "highest", "last", "lowest", "mean", "model", "open", "total",
]  # fmt: skip


def open(path: str = ".", *, profile: str | None = None) -> App:
    """The project at ``path`` for a notebook or a script: ``ecluse.open(".").training_table("churn")``."""
    from ecluse.app import open_app

    return open_app(path, profile=profile)
