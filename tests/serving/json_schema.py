"""JSON Schema as our documents use it: an answer is held against what is declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs


def faults(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Where a value is not what its schema says; the schema's references are into the document."""
    whole = {**schema, "components": document["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return [f"{'.'.join(map(str, each.instance_path)) or '$'}: {each.message}" for each in validator.iter_errors(value)]


def resolve(reference: str, document: Mapping[str, Any]) -> Any:
    """What a reference inside the document means. Raises KeyError."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found
