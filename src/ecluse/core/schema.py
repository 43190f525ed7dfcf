"""Schema: the shape of a version's inputs and outputs; what a request must hold, in which order the scorer wants it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ecluse.core.contract import Column
from ecluse.core.entity import Entity
from ecluse.core.expression import Node, Value
from ecluse.core.model import Task
from ecluse.core.view import FeatureKind


@dataclass(frozen=True)
class Feature:
    """One input of the scorer. ``categories`` are those seen in training, sorted; a value outside them encodes as -1."""

    name: str
    kind: Literal["number", "boolean", "category"]
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StoredView:
    """Where stored inputs come from: a view's name, its features with their kinds, how old a value may be, what a missing row means."""

    name: str
    entity: Entity
    features: Mapping[str, FeatureKind]
    ttl: timedelta | None
    missing: Literal["refuse", "accept"]


@dataclass(frozen=True)
class Schema:
    """Inputs and outputs of a version.

    ``features`` are the scorer's inputs in order; ``views`` where stored ones come from; ``columns`` the contract of every input a caller
    may send (explicit features and request fields); ``request`` the fields that come with every request; ``derived`` what is computed
    from them; ``classes`` the labels of a multi-class model in output order (binary: the positive class only is answered).
    """

    model: str
    task: Task
    features: tuple[Feature, ...]
    views: tuple[StoredView, ...]
    columns: Mapping[str, Column]
    request: tuple[str, ...]
    derived: Mapping[str, Node]
    accepts: Literal["entity", "features", "both"]
    classes: tuple[str, ...] = ()


def make_encoder(feature: Feature) -> Callable[[Value], float]:
    """What turns a value of the feature into the double a scorer sees: NaN for missing, 0/1 for booleans, the category's position or -1 for
    one never seen. It raises ValueError for text where the feature is no category: text that looks like a number is none.

    >>> encode = make_encoder(Feature("plan", "category", ("Basic", "Gold")))
    >>> encode("Gold"), encode("Silver"), encode(None)
    (1.0, -1.0, nan)
    """
    if feature.kind != "category":
        return _encode_number
    assert feature.categories is not None
    codes: dict[Value, float] = {category: float(i) for i, category in enumerate(feature.categories)}

    def encode_category(value: Value) -> float:
        if value is None:
            return math.nan
        return codes.get(value if isinstance(value, str) else str(value), -1.0)

    return encode_category


def _encode_number(value: Value) -> float:
    if type(value) is float:
        return value
    if isinstance(value, str):
        raise ValueError(f"text {value!r} for a number")
    return math.nan if value is None else float(value)


def encode_value(feature: Feature, value: Value) -> float:
    """:func:`make_encoder` for one value."""
    return make_encoder(feature)(value)
