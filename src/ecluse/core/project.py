"""Project: everything ``project.py`` declares, gathered, checked against itself, and kept as canonical JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from ecluse.core.codec import digest
from ecluse.core.contract import Table
from ecluse.core.entity import Entity
from ecluse.core.errors import DeclarationError, NotFound
from ecluse.core.model import Label, Model
from ecluse.core.view import FeatureView

Named = TypeVar("Named", Table, FeatureView, Label, Model)


@dataclass(frozen=True)
class Project:
    """The declared nouns. ``code`` is the digest of the project's own Python sources, so two declarations that read alike but build
    another estimator differ.
    """

    tables: tuple[Table, ...]
    views: tuple[FeatureView, ...]
    labels: tuple[Label, ...]
    models: tuple[Model, ...]
    code: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical declaration."""
        return digest(self)

    def table(self, name: str) -> Table:
        """The table of that name. Raises NotFound."""
        return _named(self.tables, name, "table")

    def model(self, name: str | None = None) -> Model:
        """The model of that name, or the only one. Raises NotFound, DeclarationError when there are several."""
        if name is None:
            if len(self.models) != 1:
                raise DeclarationError(
                    f"the project has {len(self.models)} models",
                    where="project.py",
                    cure="say which with --model: " + ", ".join(m.name for m in self.models),
                )
            return self.models[0]
        return _named(self.models, name, "model")

    def tables_of(self, model: Model) -> tuple[Table, ...]:
        """The tables a model's features and label come from, by name."""
        used = {view.table.name: view.table for view in model.features} | {
            model.predicts.table.name: model.predicts.table
        }
        return tuple(used[name] for name in sorted(used))

    def entities(self) -> tuple[Entity, ...]:
        """Every entity of a table, by name."""
        return tuple({table.key.name: table.key for table in self.tables}.values())


def gather(values: Iterable[object], code: str = "") -> Project:
    """A Project of all declared nouns among ``values`` (a module's globals), including tables reached through views and labels.

    Raises DeclarationError for two different nouns of one name, an unknown reference, or no model.
    """
    tables: dict[str, Table] = {}
    views: dict[str, FeatureView] = {}
    labels: dict[str, Label] = {}
    models: dict[str, Model] = {}

    def add(store: dict[str, Named], noun: Named) -> None:
        if store.setdefault(noun.name, noun) != noun:
            raise DeclarationError(
                f"two different {type(noun).__name__} named {noun.name!r}", where="project.py", cure="rename one"
            )

    for value in list(values):
        if isinstance(value, Model):
            add(models, value)
            add(labels, value.predicts)
            for view in value.features:
                add(views, view)
        elif isinstance(value, FeatureView):
            add(views, value)
        elif isinstance(value, Label):
            add(labels, value)
        elif isinstance(value, Table):
            add(tables, value)
    for table in [*(v.table for v in views.values()), *(label.table for label in labels.values())]:
        add(tables, table)
    for table in tables.values():
        for reference in table.references:
            if reference not in tables:
                raise DeclarationError(
                    f"table {table.name} refers to `{reference}`",
                    where="project.py",
                    cure="tables: " + ", ".join(tables),
                )
    if not models:
        raise DeclarationError("no model is declared", where="project.py", cure="decorate a function with @model(...)")
    return Project(_sorted(tables), _sorted(views), _sorted(labels), _sorted(models), code)


def _sorted(store: dict[str, Named]) -> tuple[Named, ...]:
    return tuple(store[name] for name in sorted(store))


def _named(nouns: tuple[Named, ...], name: str, word: str) -> Named:
    for noun in nouns:
        if noun.name == name:
            return noun
    raise NotFound(
        f"{word} {name!r}", where="project.py", cure=f"{word}s: " + (", ".join(n.name for n in nouns) or "none")
    )
