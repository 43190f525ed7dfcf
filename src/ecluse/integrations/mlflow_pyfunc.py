"""The loader MLflow calls: ``mlflow.pyfunc.load_model("models:/churn@production")`` gets a model that scores as our server does.

MLflow finds this module by its name in the logged model and hands it the folder of the bundle. pandas comes with the frames we are given;
nothing here imports it, nor scikit-learn. The data plane never comes this way: here the bundle's digests are checked, its seal is not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.app import open_scorer
from ecluse.core.errors import InvalidInput
from ecluse.core.expression import AS_OF, Binary, Node, Unary, Value, evaluate, names
from ecluse.core.instants import parse_instant, to_micros
from ecluse.core.ports import Scorer
from ecluse.core.schema import Feature, Schema
from ecluse.core.view import FeatureKind, column_kind

Array = npt.NDArray[np.float64]
_AS_OF = "as_of"
_CURE = "give the columns of the model's signature"


def _load_pyfunc(path: str) -> PyfuncModel:
    """The model in a bundle's folder, which is named by its digest. Raises Corrupt, NotFound."""
    folder = Path(path)
    bundle = BundlesFiles(folder.parent).get(folder.name)
    return PyfuncModel(bundle.schema, open_scorer(bundle))


class PyfuncModel:
    """A version behind MLflow's ``predict``."""

    def __init__(self, schema: Schema, scorer: Scorer) -> None:
        self._schema, self._scorer = schema, scorer

    def predict(self, frame: Any, params: Any = None) -> Array:
        """Scores of a pandas DataFrame's rows: double [n] (probability of the positive class, or the value), [n, K] with several classes.

        Columns: stored features and request fields as they are; missing values are missing. A derived feature is computed when
        everything it reads is there (``as_of`` among it, where it is read), else it is read from a column of its name. ``params`` are
        MLflow's and have no meaning here. Raises InvalidInput naming a column that is missing or not of its kind.
        """
        del params
        answers: Array = self._scorer.score(encode_frame(frame, self._schema))
        return answers if self._schema.task == "multiclass" else answers[:, 0]


def encode_frame(frame: Any, schema: Schema) -> Array:
    """The scorer's matrix, double [n, F], of a pandas DataFrame: every value as ``core.schema.encode_value`` would write it."""
    matrix = np.empty((len(frame), len(schema.features)), dtype=np.float64)
    for i, feature in enumerate(schema.features):
        node = schema.derived.get(feature.name)
        missing = sorted(_reads(node).difference(frame.columns)) if node is not None else []
        if node is not None and not missing:
            matrix[:, i] = _derived(frame, node, _kinds(schema))
        elif missing and feature.name not in frame.columns:
            what = f"`{feature.name}` cannot be computed without {', '.join(f'`{name}`' for name in missing)}"
            raise InvalidInput(what, where="predict", cure=_CURE)
        else:
            column = _column(frame, feature.name)
            matrix[:, i] = _codes(column, feature) if feature.kind == "category" else _numbers(column, feature.name)
    return matrix


def _column(frame: Any, name: str) -> Any:
    if name not in frame.columns:
        raise InvalidInput(f"no column `{name}`", where="predict", cure=_CURE)
    return frame[name]


def _numbers(column: Any, name: str) -> Array:
    """Numbers and booleans as doubles; missing ones as NaN. Text is refused, also where it looks like a number."""
    if column.dtype.kind not in "iufb":
        present = column[column.notna()]
        if not all(isinstance(value, int | float | np.number | np.bool_) for value in present):
            raise InvalidInput(f"`{name}` is {column.dtype}, not numbers", where="predict", cure=_CURE)
    values: Array = column.to_numpy(dtype=np.float64, na_value=math.nan)
    return values


def _codes(column: Any, feature: Feature) -> Array:
    """A category's position among those seen in training, -1 for one never seen, NaN for a missing one."""
    codes, words = column.factorize()  # a missing value has code -1: the last place
    if any(isinstance(word, float | np.floating) for word in words):
        raise InvalidInput(f"`{feature.name}` holds fractions, not categories", where="predict", cure="give text")
    places = {word: float(place) for place, word in enumerate(feature.categories or ())}
    encoded: Array = np.array([*(places.get(str(word), -1.0) for word in words), math.nan])[codes]
    return encoded


def _derived(frame: Any, node: Node, kinds: dict[str, FeatureKind]) -> Array:
    """A derived feature, row by row, by the evaluator that serves."""
    read = sorted(_reads(node))
    columns = [_values(frame[name], name, kinds.get(name, "instant")) for name in read]
    rows = zip(*columns, strict=True) if columns else iter([()] * len(frame))
    found = (evaluate(node, dict(zip(read, row, strict=True))) for row in rows)
    return np.array([math.nan if value is None else float(value) for value in found], dtype=np.float64)


def _values(column: Any, name: str, kind: FeatureKind) -> Iterable[Value]:
    """A column as the values expressions read: doubles, booleans, text, microseconds; None for missing ones."""
    if kind == "instant":
        return [_micros(value, name) if there else None for value, there in zip(column, column.notna(), strict=True)]
    if kind == "category":
        return [str(value) if there else None for value, there in zip(column, column.notna(), strict=True)]
    numbers = _numbers(column, name).tolist()
    as_value = bool if kind == "boolean" else float
    return [None if value != value else as_value(value) for value in numbers]


def _micros(value: Any, name: str) -> float:
    """UTC microseconds of an instant: a datetime or pandas Timestamp with a time zone, or RFC 3339 text."""
    if isinstance(value, str):
        value = parse_instant(value, where=f"predict: {name}")
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(
            f"`{name}` is {value!r}, not an instant", where="predict", cure="give moments with a time zone"
        )
    return float(to_micros(value))


@functools.cache
def _reads(node: Node) -> frozenset[str]:
    """Every column an expression reads, ``as_of`` included."""
    return names(node) | (frozenset((_AS_OF,)) if _has_as_of(node) else frozenset())


def _has_as_of(node: Node) -> bool:
    if isinstance(node, Binary):
        return _has_as_of(node.left) or _has_as_of(node.right)
    return _has_as_of(node.operand) if isinstance(node, Unary) else node == AS_OF


def _kinds(schema: Schema) -> dict[str, FeatureKind]:
    """Kind of every stored feature and request field."""
    stored = {name: kind for view in schema.views for name, kind in view.features.items()}
    return stored | {name: column_kind(schema.columns[name], f"request field {name}") for name in schema.request}
