"""Contracts -> JSON Schema (2020-12, as OpenAPI 3.1 uses it): what a version's requests and answers look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ecluse.core.contract import Boolean, Category, Column, Instant, Integer, Number
from ecluse.core.entity import MAX_KEY_BYTES
from ecluse.serving.answers import VERSION_FIELD
from ecluse.serving.problems import KINDS
from ecluse.serving.scorers import Loaded
from ecluse.serving.tensors import DATATYPES
from ecluse.serving.validate import REQUEST_ID, Form

Shape = dict[str, Any]

_TEXT: Shape = {"type": "string"}
_TEXTS: Shape = {"type": "array", "items": _TEXT}
_ID: Shape = {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"}
_OWN_ID: Shape = {**_ID, "type": ["string", "null"]}
_INSTANT: Shape = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}],
    "description": "RFC 3339; a bare date is 00:00 UTC",
    "examples": ["2024-01-31", "2024-01-31T12:00:00Z"],
}
_TOLD: Shape = {"type": "string", "format": "date-time"}
_PARAMETERS: Shape = {"type": ["object", "null"]}
_NULL: Shape = {"type": "null"}
REQUEST_ID_SHAPE = _ID


def ref(name: str) -> Shape:
    """A reference to a named shape."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(shape: Shape, least: int = 0, most: int = 0) -> Shape:
    """A list of such values; 0 is no bound."""
    bounds = {name: bound for name, bound in (("minItems", least), ("maxItems", most)) if bound}
    return {"type": "array", "items": shape, **bounds}


def closed(properties: Mapping[str, Shape], required: Iterable[str] = ()) -> Shape:
    """An object of these members and no others."""
    return {"type": "object", "properties": dict(properties), "required": list(required), "additionalProperties": False}


def column_shape(column: Column) -> Shape:
    """The values a column takes.

    >>> column_shape(Number(min=0, nulls=0.5))
    {'type': ['number', 'null'], 'minimum': 0}
    """
    if isinstance(column, Number | Integer):
        shape: Shape = {"type": "integer" if isinstance(column, Integer) else "number"}
        shape |= {
            name: bound for name, bound in (("minimum", column.min), ("maximum", column.max)) if bound is not None
        }
    elif isinstance(column, Boolean):
        shape = {"type": "boolean"}
    elif isinstance(column, Instant):
        shape = dict(_INSTANT)
    elif isinstance(column, Category) and column.values:
        shape = {"type": "string", "enum": list(column.values)}
    else:
        shape = {"type": "string", "maxLength": MAX_KEY_BYTES}
    return _or_null(shape) if column.nulls > 0 else shape


def request_shape(form: Form) -> Shape:
    """What ``POST /predict`` takes of a version: a row, and the number of another warm version that shall answer it."""
    own = {} if VERSION_FIELD in form.fields else {VERSION_FIELD: _VERSION}
    found = _row(form, _SHARED | own)
    return found | {"examples": [_example(each) for each in found.get("oneOf", [found])]}


def row_shape(form: Form) -> Shape:
    """A row of a batch: by key, with explicit features, or either."""
    return _row(form, _SHARED)


def flat_shape(form: Form) -> Shape:
    """A row of a frame: as a row of a batch, its explicit features beside its other fields."""
    return _row(form, _SHARED, flat=True)


def outcome_shape(loaded: Loaded) -> Shape:
    """What ``POST /outcomes`` takes of a version: a truth of a request, or of an entity at a moment."""
    task, form = loaded.schema.task, loaded.form
    truth: Shape = {"type": "boolean" if task == "binary" else "number"}
    truth = {"type": "string", "enum": list(loaded.schema.classes)} if task == "multiclass" else truth
    shared: dict[str, Shape] = {
        "model": {"type": "string", "enum": [loaded.model]},
        "value": truth,
        "known_at": _INSTANT,
    }
    forms = [closed(shared | {"request_id": _ID}, ["value", "request_id"])]
    if form.entities:
        keys = {column: _key(form, column) for column in form.entities[0].columns}
        forms.append(closed(shared | keys | {"at": _INSTANT}, ["value", "at", *keys]))
    return _either(forms)


def answer_shape(loaded: Loaded) -> Shape:
    """What ``POST /predict`` answers of a version."""
    schema = loaded.schema
    number: Shape = {"type": "number"}
    probability: Shape = {"type": "number", "minimum": 0, "maximum": 1}
    score: dict[str, Shape] = {"value": number}
    decision: Shape = {"type": "null"}
    if schema.task == "binary":
        score, decision = {"proba": probability}, {"type": ["boolean", "null"]}
    elif schema.task == "multiclass":
        score = {"probabilities": closed(dict.fromkeys(schema.classes, probability), schema.classes)}
        decision = {"type": "string", "enum": list(schema.classes)}
    always: dict[str, Shape] = {
        "prediction_id": _TEXT,
        "request_id": _ID,
        "model": {"const": loaded.model},
        "version": {"type": "integer"},
        **score,
        "threshold": {"type": ["number", "null"]},
        "decision": decision,
        "as_of": _TOLD,
        "moments": {
            "type": "object",
            "additionalProperties": _TOLD,
            "description": "per view: what its values were computed as of",
        },
        "timestamp": _TOLD,
        "unseen": _TEXTS | {"description": "inputs with a value never seen in training"},
        "degraded": _TEXTS | {"description": "views answered without, where the project accepts that"},
    }
    keys = {name: _key(loaded.form, name) for name in loaded.form.key_columns}
    return closed(keys | always | {"status": {"const": 200, "description": "in a batch"}}, always)


def problem_shape() -> Shape:
    """Every "no": RFC 9457 with a stable code."""
    codes = list(KINDS)
    always: dict[str, Shape] = {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "code": {"type": "string", "enum": codes},
        "cure": _TEXT,
        "request_id": _ID,
    }
    return closed(always | {"field": _TEXT, "error": _TEXT}, always)


def fixed_shapes(max_batch: int) -> dict[str, Shape]:
    """The shapes that do not depend on what is served. ``max_batch``: rows a request may have."""
    count: Shape = {"type": "integer", "minimum": 0}
    sizes = list_of({"type": "integer"}, 1)
    tensor = {"name": _TEXT, "datatype": {"type": "string", "enum": list(DATATYPES)}, "shape": sizes}
    results = list_of({"anyOf": [ref("Prediction"), ref("Problem")]})
    infer = closed({**tensor, "parameters": _PARAMETERS, "data": {"type": "array"}}, tensor)
    given = closed({**tensor, "shape": _ROWS, "parameters": _PARAMETERS, "data": {"type": "array"}}, tensor)
    wanted = closed({"name": _TEXT, "parameters": _PARAMETERS}, ["name"])
    return {
        "Problem": problem_shape(),
        "BatchRequest": closed({"instances": list_of(ref("Row"), 1, max_batch), "request_id": _OWN_ID}, ["instances"]),
        "BatchAnswer": closed(
            {
                "request_id": _ID,
                "model": _TEXT,
                "version": count,
                "answered": count,
                "refused": count,
                "results": results,
            },
            ["request_id", "model", "version", "answered", "refused", "results"],
        ),
        "Outcomes": {"anyOf": [ref("Outcome"), list_of(ref("Outcome"), 1)]},
        "Accepted": closed({"accepted": count}, ["accepted"]),
        "Frame": _frame_shape(max_batch),
        "Predictions": closed({"predictions": list_of({"type": ["number", "array"]})}, ["predictions"]),
        "InferRequest": closed(
            {
                "id": _OWN_ID,
                "parameters": _PARAMETERS,
                "inputs": list_of(given, 1),
                "outputs": _or_null(list_of(wanted)),
            },
            ["inputs"],
        ),
        "InferAnswer": closed(
            {"id": _ID, "model_name": _TEXT, "model_version": _TEXT, "outputs": list_of(infer)},
            ["id", "model_name", "model_version", "outputs"],
        ),
        "ModelMetadata": {
            "type": "object",
            "properties": {
                "name": _TEXT,
                "versions": _TEXTS,
                "platform": _TEXT,
                "inputs": list_of(closed(tensor, tensor)),
                "outputs": list_of(closed(tensor, tensor)),
            },
            "required": ["name", "versions", "platform", "inputs", "outputs"],
        },
        "ServerMetadata": closed(
            {"name": _TEXT, "version": _TEXT, "extensions": _TEXTS}, ["name", "version", "extensions"]
        ),
        "Facts": {"type": "object"},
    }


def _frame_shape(max_batch: int) -> Shape:
    rows = list_of(ref("Flat"), 1, max_batch)
    split = closed(
        {"columns": list_of(_TEXT, 1), "data": list_of({"type": "array"}, 1, max_batch), "index": {}},
        ["columns", "data"],
    )
    columns: Shape = {"type": "object", "additionalProperties": {"type": "array"}, "minProperties": 1}
    forms = {
        "dataframe_split": split,
        "dataframe_records": rows,
        "instances": rows,
        "inputs": {"anyOf": [columns, rows]},
    }
    none: Shape = {"type": ["object", "null"], "maxProperties": 0, "description": "the model takes none"}
    return {"oneOf": [closed({name: shape, "params": none}, [name]) for name, shape in forms.items()]}


def _row(form: Form, shared: dict[str, Shape], *, flat: bool = False) -> Shape:
    columns, accepts = form.schema.columns, form.schema.accepts
    fields = {name: column_shape(columns[name]) for name in form.schema.request}
    forms = []
    if accepts != "features" or not form.entities:
        keys = {name: _key(form, name) for name in form.key_columns}
        forms.append(closed(keys | fields | shared, [*keys, *fields]))
    if accepts != "entity" and form.stored:
        features = {name: column_shape(columns[name]) for name in form.stored}
        own = features if flat else {"features": closed(features, features)}
        forms.append(closed(own | fields | shared, [*own, *fields]))
    return _either(forms)


def _example(shape: Shape) -> Any:
    """A value of that shape, with nothing that may be left out."""
    if "properties" in shape:
        return {name: _example(shape["properties"][name]) for name in shape["required"]}
    if "anyOf" in shape:
        return shape["examples"][0]
    if "enum" in shape:
        return shape["enum"][0]
    kinds = [shape["type"]] if isinstance(shape["type"], str) else shape["type"]
    if kinds[0] in ("integer", "number") and "pattern" not in shape:
        low, high = shape.get("minimum"), shape.get("maximum")
        return (
            1
            if low is None and high is None
            else high
            if low is None
            else low + 1
            if low + 1 <= (high or low + 1)
            else low
        )
    return {"boolean": True, "integer": 1}.get(kinds[0], "…")


def _either(forms: list[Shape]) -> Shape:
    return forms[0] if len(forms) == 1 else {"oneOf": forms}


def _or_null(shape: Shape) -> Shape:
    if "anyOf" in shape:
        return {**shape, "anyOf": [*shape["anyOf"], _NULL]}
    own = {"enum": [*shape["enum"], None]} if "enum" in shape else {}
    return {**shape, "type": [shape["type"], "null"], **own}


def _key(form: Form, column: str) -> Shape:
    kind = next(entity.kind for entity in form.entities if column in entity.columns)
    if kind == "integer":
        return {"type": ["integer", "string"], "pattern": "^-?[0-9]{1,18}$"}
    return {"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_KEY_BYTES, "pattern": r"^[^\x00]*$"}


_VERSION: Shape = {
    "type": ["integer", "null"],
    "minimum": 1,
    "description": "another warm version that shall answer; wants the scope `versions`",
}
_SHARED: dict[str, Shape] = {"as_of": _or_null(_INSTANT), "request_id": _OWN_ID}
_ROWS: Shape = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0},
    "minItems": 1,
    "maxItems": 2,
    "description": "[rows] or [rows, 1]",
}
