"""Rows of other protocols -> requests of ours: a flat row knows no ``features`` object, and text knows no types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecluse.core.contract import Boolean, Integer, Number
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.validate import Form

_WORDS = {"true": True, "false": False}


def as_request(row: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """The body of ``POST /predict`` that a flat row means: stored features that stand in it are explicit features.

    Whether a key stands beside them, and whether the model takes them, is judged where every request is.
    """
    explicit = {name: row[name] for name in form.stored if name in row}
    if not explicit or "features" in row:
        return dict(row)
    return {name: value for name, value in row.items() if name not in explicit} | {"features": explicit}


def typed(name: str, text: str, form: Form) -> Any:
    """The JSON value that a cell of text means in a column; empty text is null. What is no such value stays text, and is refused as such.

    Raises Refused for a number JSON has no word for.
    """
    if not text:
        return None
    column = form.schema.columns.get(name)
    whole = isinstance(column, Integer) or any(
        name in entity.columns and entity.kind == "integer" for entity in form.entities
    )
    if isinstance(column, Boolean):
        return _WORDS.get(text.lower(), text)
    if not whole and not isinstance(column, Number):
        return text
    if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise Refused(
            "out_of_range", f"`{name}` is {excerpt(text)}", field=name, cure="send a finite number, or nothing"
        )
    if not text.isascii() or "_" in text:  # Python would read more as a number than a table means
        return text
    try:
        return int(text) if whole and "." not in text else float(text)
    except ValueError:
        return text
