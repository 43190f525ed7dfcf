"""Label and model: what is predicted, from which features, by which estimator, judged by what."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, cast

from ecluse.core.codec import tagged
from ecluse.core.contract import Boolean, Category, Column, Integer, Number, Table
from ecluse.core.errors import DeclarationError
from ecluse.core.expression import Node, Operators, names
from ecluse.core.instants import parse_duration
from ecluse.core.view import FeatureKind, FeatureView, column_kind

Task = Literal["binary", "multiclass", "regression"]
Scalar = bool | int | float | str

RESERVED = frozenset({"as_of", "features", "label", "model_version", "request_id", "y"})
"""What no feature may be called: words of requests and of the training frame."""
ANSWERED = frozenset(
    {"as_of", "decision", "degraded", "model", "moments", "prediction_id", "proba", "probabilities", "request_id"}
    | {"threshold", "timestamp", "unseen", "value", "version"}
)
"""The names in an answer beside the key it was asked by."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Label:
    """The truth to learn. A row of ``table`` at its event time ``at`` says what happened in ``(at, at + horizon]``; features are taken
    as of ``at``; the truth is known from ``at + horizon + known_after``. The column's type gives the task: Boolean, Category, Number.
    """

    name: str
    table: Table
    column: str
    horizon: timedelta = timedelta(0)
    known_after: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        for name in ("horizon", "known_after"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, parse_duration(value, where=f"label {self.name}"))
        if self.column not in self.table.columns:
            raise DeclarationError(
                f"table {self.table.name} has no column `{self.column}`",
                where=f"project.py: label {self.name}",
                cure="name a declared column",
            )
        _ = self.task

    @property
    def task(self) -> Task:
        """Binary for Boolean, multiclass for Category, regression for Number and Integer."""
        column = self.table.columns[self.column]
        if isinstance(column, Boolean):
            return "binary"
        if isinstance(column, Category):
            return "multiclass"
        if isinstance(column, Number | Integer):
            return "regression"
        raise DeclarationError(
            f"label column `{self.column}` is {type(column).__name__}",
            where=f"project.py: label {self.name}",
            cure="use Boolean (binary), Category (multi-class) or Number (regression)",
        )

    @property
    def delay(self) -> timedelta:
        """How long after ``at`` the truth is known."""
        return self.horizon + self.known_after


@tagged
@dataclass(frozen=True)
class Range:
    """A number to choose: ``Range(0.02, 0.3, default=0.1, log=True)``. Whole numbers when all three are."""

    low: int | float
    high: int | float
    default: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.default <= self.high or (self.log and self.low <= 0):
            raise DeclarationError(
                f"Range({self.low}, {self.high}, default={self.default})",
                where="project.py",
                cure="keep low <= default <= high",
            )


@tagged
@dataclass(frozen=True)
class Choice:
    """One of some values: ``Choice(15, 31, 63, default=31)`` (the first without a default)."""

    values: tuple[Scalar, ...]
    default: Scalar

    def __init__(self, *given: Scalar, values: Sequence[Scalar] = (), default: Scalar | None = None) -> None:
        every = tuple(given) or tuple(values)
        if not every or (default is not None and default not in every):
            raise DeclarationError(
                f"Choice{every} with default {default!r}",
                where="project.py",
                cure="give values and a default among them",
            )
        object.__setattr__(self, "values", every)
        object.__setattr__(self, "default", every[0] if default is None else default)


@tagged
@dataclass(frozen=True)
class Fixed:
    """A parameter with a plain default: settable in ecluse.toml, not searched."""

    default: Scalar | None


Parameter = Range | Choice | Fixed


@dataclass(frozen=True)
class Model:
    """One model of a project, made by the :func:`model` decorator; ``build(**parameters)`` returns a fresh estimator."""

    name: str
    predicts: Label
    features: tuple[FeatureView, ...]
    judged_by: str
    derived: Mapping[str, Node] = field(default_factory=dict)
    request: Mapping[str, Column] = field(default_factory=dict)
    accepts: Literal["entity", "features", "both"] = "entity"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    build: Callable[..., Any] | None = field(default=None, compare=False, repr=False, metadata={"plain": False})

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "features", tuple(self.features))
        set_(self, "derived", dict(self.derived))
        set_(self, "request", dict(self.request))
        self._check()

    @property
    def task(self) -> Task:
        """binary, multiclass or regression."""
        return self.predicts.task

    @property
    def raw_kinds(self) -> dict[str, FeatureKind]:
        """Kind of every stored feature and request field, by name: what derived features may read."""
        kinds = {name: kind for view in self.features for name, kind in view.kinds.items()}
        kinds |= {
            name: column_kind(column, f"model {self.name}: request field {name}")
            for name, column in self.request.items()
        }
        return dict(sorted(kinds.items()))

    @property
    def input_kinds(self) -> dict[str, FeatureKind]:
        """Kind of every input of the estimator: stored, requested (but for instants) and derived ones, by name.

        The order is alphabetical, so that it does not depend on how the declaration was written or stored.
        """
        kinds: dict[str, FeatureKind] = {name: kind for name, kind in self.raw_kinds.items() if kind != "instant"}
        return dict(sorted((kinds | dict.fromkeys(self.derived, "number")).items()))

    def _check(self) -> None:
        where = f"project.py: model {self.name}"
        if not _NAME.fullmatch(self.name):  # it stands in addresses and in lists
            raise DeclarationError(
                f"model name {self.name!r}", where="project.py", cure="use letters, digits, - and _, at most 64"
            )
        seen: dict[str, str] = {}
        for owner, feature in [(v.name, f) for v in self.features for f in v.features] + [
            ("request", f) for f in self.request
        ]:
            if feature in seen:
                raise DeclarationError(
                    f"feature `{feature}` is in {seen[feature]} and {owner}", where=where, cure="rename one of them"
                )
            seen[feature] = owner
        for name in [*seen, *self.derived]:
            if name.startswith("__") or name in RESERVED:
                raise DeclarationError(
                    f"feature name {name!r} has a meaning of its own", where=where, cure="rename the feature"
                )
        for name in (column for view in self.features for column in view.table.key.columns):
            if name in RESERVED | ANSWERED:
                raise DeclarationError(
                    f"key column {name!r} has a meaning of its own in requests and answers",
                    where=where,
                    cure="rename the column in the table",
                )
        for name, node in self.derived.items():
            unknown = names(node) - set(seen)
            if unknown or name in seen:
                raise DeclarationError(
                    f"derived `{name}` reads unknown {sorted(unknown)}"
                    if unknown
                    else f"derived `{name}` hides a feature",
                    where=where,
                    cure="read declared features and request fields: " + ", ".join(seen),
                )
        if not self.input_kinds:
            raise DeclarationError("no features", where=where, cure="give features=[view, ...]")
        if self.request and self.accepts == "entity" and not self.features:
            raise DeclarationError("request fields only", where=where, cure='declare accepts="features"')


def model(
    name: str,
    *,
    predicts: Label,
    features: Sequence[FeatureView],
    judged_by: str,
    derived: Mapping[str, Operators] | None = None,
    request: Mapping[str, Column] | None = None,
    accepts: Literal["entity", "features", "both"] = "entity",
) -> Callable[[Callable[..., Any]], Model]:
    """Declare a model; the decorated function's parameters are the hyperparameters, what it returns is the estimator.

    ``judged_by`` is the metric versions are compared on. ``accepts`` says what a request may hold: an entity key (online features),
    explicit features, or either. ``request`` fields come with each request and are never stored.
    """

    def declare(build: Callable[..., Any]) -> Model:
        parameters: dict[str, Parameter] = {}
        for parameter in inspect.signature(build).parameters.values():
            default = parameter.default
            if default is inspect.Parameter.empty:
                raise DeclarationError(
                    f"parameter `{parameter.name}` has no default",
                    where=f"project.py: model {name}",
                    cure="give it one",
                )
            parameters[parameter.name] = default if isinstance(default, Range | Choice) else Fixed(default)
        written = cast("Mapping[str, Node]", derived or {})  # every Operators is one of Node's classes
        views = tuple(features)
        return Model(name, predicts, views, judged_by, written, request or {}, accepts, parameters, build)

    return declare
