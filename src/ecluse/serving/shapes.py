"""Contracts -> JSON Schema (2020-12, as OpenAPI 3.1 uses it): what a version's requests and answers look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ecluse.core.contract import Boolean, Category, Column, Instant, Integer, Number
from ecluse.core.entity import MAX_KEY_BYTES
from ecluse.serving.problems import KINDS
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import REQUEST_ID, Form

Shape = dict[str, Any]

_TEXT: Shape = {"type": "string"}
_TEXTS: Shape = {"type": "array", "items": _TEXT}
_ID: Shape = {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"}
_INSTANT: Shape = {
    "type": "string",
    "description": "RFC 3339; a bare date is 00:00 UTC",
    "examples": ["2024-01-31", "2024-01-31T12:00:00Z"],
}
_PARAMETERS: Shape = {"type": ["object", "null"]}


def ref(name: str) -> Shape:
    """A reference to a named shape."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(shape: Shape, least: int = 0) -> Shape:
    """A list of such values."""
    return {"type": "array", "items": shape, "minItems": least} if least else {"type": "array", "items": shape}


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
    if column.nulls > 0:
        shape["type"] = [shape["type"], "null"]
        if "enum" in shape:
            shape["enum"].append(None)
    return shape


def request_shape(form: Form) -> Shape:
    """What ``POST /predict`` takes of a version: by key, with explicit features, or either."""
    columns, accepts = form.schema.columns, form.schema.accepts
    fields = {name: column_shape(columns[name]) for name in form.schema.request}
    shared = {"as_of": _INSTANT, "request_id": _ID}
    forms = []
    if accepts != "features" or not form.entities:
        keys = {name: _key(form, name) for name in form.key_columns}
        forms.append(closed(keys | fields | shared, [*keys, *fields]))
    if accepts != "entity" and form.stored:
        features = closed({name: column_shape(columns[name]) for name in form.stored}, form.stored)
        forms.append(closed({"features": features} | fields | shared, ["features", *fields]))
    return forms[0] if len(forms) == 1 else {"oneOf": forms}


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
        "as_of": _INSTANT,
        "moments": {
            "type": "object",
            "additionalProperties": _INSTANT,
            "description": "per view: what its values were computed as of",
        },
        "timestamp": _INSTANT,
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


def fixed_shapes() -> dict[str, Shape]:
    """The shapes that do not depend on what is served."""
    count: Shape = {"type": "integer", "minimum": 0}
    tensor = {"name": _TEXT, "datatype": _TEXT, "shape": list_of({"type": "integer"})}
    results = list_of({"anyOf": [ref("Prediction"), ref("Problem")]})
    split = closed({"columns": _TEXTS, "data": list_of({"type": "array"}), "index": {}}, ["columns", "data"])
    records = list_of({"type": "object"}, 1)
    frames = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": records,
        "inputs": {"type": ["object", "array"]},
    }
    outcome = {"model": _TEXT, "value": {"type": ["boolean", "number", "string"]}, "request_id": _ID, "at": _INSTANT}
    infer = closed({**tensor, "parameters": _PARAMETERS, "data": {"type": "array"}}, tensor)
    wanted = closed({"name": _TEXT, "parameters": _PARAMETERS}, ["name"])
    return {
        "Problem": problem_shape(),
        "BatchRequest": closed({"instances": list_of(ref("Request"), 1), "request_id": _ID}, ["instances"]),
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
        "Outcome": {"type": "object", "properties": outcome, "required": ["value"]},
        "Outcomes": {"anyOf": [ref("Outcome"), list_of(ref("Outcome"), 1)]},
        "Accepted": closed({"accepted": count}, ["accepted"]),
        "Frame": {"oneOf": [closed({name: shape, "params": _PARAMETERS}, [name]) for name, shape in frames.items()]},
        "Predictions": closed({"predictions": list_of({"type": ["number", "array"]})}, ["predictions"]),
        "InferRequest": closed(
            {"id": _ID, "parameters": _PARAMETERS, "inputs": list_of(infer, 1), "outputs": list_of(wanted)}, ["inputs"]
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


def _key(form: Form, column: str) -> Shape:
    kind = next(entity.kind for entity in form.entities if column in entity.columns)
    return (
        {"type": ["integer", "string"]}
        if kind == "integer"
        else {"type": ["string", "integer"], "maxLength": MAX_KEY_BYTES}
    )
