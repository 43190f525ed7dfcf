"""Outcomes over HTTP: truths that arrived, checked as strictly as requests and journaled together or not at all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from ecluse.core.errors import Unavailable
from ecluse.core.expression import Value
from ecluse.core.ports import Journal
from ecluse.core.prediction import OutcomeRecord
from ecluse.serving.predict import time_text
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import parse_json, read_entity, read_instant, read_request_id

_encode = msgspec.json.Encoder().encode


def read_outcomes(
    body: bytes | bytearray, champions: Mapping[str, Loaded], model: str | None, now: int
) -> list[OutcomeRecord]:
    """The outcomes of a body: one object or a list. Each names a ``request_id``, or an entity's key and ``at``, and may
    say since when it is ``known_at`` (a moment to come is for the join to hold back). Raises Refused.
    """
    value = parse_json(body)
    items = value if isinstance(value, list) else [value]
    if not items:
        raise Refused("missing_field", "the list of outcomes is empty", cure="send at least one outcome")
    return [
        _read(item, champions, model, now, f"[{i}]." if isinstance(value, list) else "") for i, item in enumerate(items)
    ]


def write_outcomes(records: list[OutcomeRecord], journal: Journal) -> None:
    """Journal all of them in one write. Raises Refused: then none was kept."""
    try:
        journal.append_many([_encode(record) for record in records])
    except Unavailable as error:
        raise Refused("log_unavailable", error.what) from None


def _read(item: Any, champions: Mapping[str, Loaded], model: str | None, now: int, prefix: str) -> OutcomeRecord:
    if not isinstance(item, dict):
        raise Refused(
            "wrong_type", f"{prefix or 'the body'} is not an object", field=prefix or None, cure="send objects"
        )
    loaded = _loaded(item, champions, model, prefix)
    keyed, columns = "request_id" not in item, loaded.form.entities[0].columns if loaded.form.entities else ()
    allowed = {"model", "value", "known_at", *((*columns, "at") if keyed else ("request_id",))}
    if stranger := next((name for name in item if name not in allowed), None):
        code = "ambiguous_request" if stranger in (*columns, "at") else "unknown_field"
        cure = (
            "send a request_id, or a key with `at`"
            if code == "ambiguous_request"
            else "fields: " + ", ".join(sorted(allowed))
        )
        raise Refused(code, f"field {excerpt(stranger)} is not taken here", field=prefix + stranger[:64], cure=cure)
    if "value" not in item or (keyed and ("at" not in item or not columns)):
        missing = "value" if "value" not in item else "at" if columns else "request_id"
        raise Refused("missing_field", f"`{missing}` is missing", field=prefix + missing)
    entity = read_entity(item, loaded.form.entities[0])[1] if keyed else None
    at = time_text(read_instant(item["at"], prefix + "at")) if keyed else None
    request_id = None if keyed else read_request_id(item["request_id"], prefix + "request_id")
    if not keyed and request_id is None:
        raise Refused("missing_value", "`request_id` is null", field=prefix + "request_id")
    truth = _truth(item["value"], loaded, prefix + "value")
    known_at = time_text(read_instant(item["known_at"], prefix + "known_at")) if "known_at" in item else None
    return OutcomeRecord("outcome", time_text(now), loaded.model, entity, at, request_id, truth, known_at=known_at)


def _loaded(item: Mapping[str, Any], champions: Mapping[str, Loaded], model: str | None, prefix: str) -> Loaded:
    named = item.get("model", model)
    if model is not None and named != model:
        what = f"the path names {excerpt(model)}, the outcome {excerpt(named)}"
        raise Refused("ambiguous_request", what, field=prefix + "model", cure="name one model")
    if model is None and "model" not in item:
        if len(champions) > 1:
            raise Refused("model_required", field=prefix + "model", cure="name the `model` of each outcome")
        if not champions:
            raise Refused("no_production_version")
        return next(iter(champions.values()))
    if not isinstance(named, str) or named not in champions:
        raise Refused("unknown_model", f"no model {excerpt(named)} is served", field=prefix + "model")
    return champions[named]


def _truth(value: Any, loaded: Loaded, field: str) -> Value:
    task = loaded.schema.task
    if task == "binary":
        if isinstance(value, bool):
            return value
        raise Refused("wrong_type", f"`{field}` is {excerpt(value)}", field=field, cure="send true or false")
    if task == "multiclass":
        if isinstance(value, str) and value in loaded.schema.classes:
            return value
        raise Refused(
            "unknown_category",
            f"`{field}` is {excerpt(value)}",
            field=field,
            cure="send one of " + ", ".join(loaded.schema.classes[:20]),
        )
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)  # a whole number may be larger than any float
    raise Refused("wrong_type", f"`{field}` is {excerpt(value)}", field=field, cure="send a finite number")
