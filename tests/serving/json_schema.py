"""As much of JSON Schema as our documents use, so that answers can be held against what is declared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "null": (type(None),)
}  # fmt: skip
KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "minItems", "enum", "const", "minimum", "maximum",
    "maxLength", "pattern", "anyOf", "oneOf", "$ref", "description", "examples",
}  # fmt: skip


def faults(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], at: str = "$") -> list[str]:
    """Where a value is not what its schema says."""
    assert set(schema) <= KNOWN, f"the checker does not know {set(schema) - KNOWN}"
    if "$ref" in schema:
        return faults(value, resolve(schema["$ref"], document), document, at)
    found = [f"{at}: {value!r} is no {schema['type']}"] if "type" in schema and not _is(value, schema["type"]) else []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is not in {schema['enum']}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if isinstance(value, str):
        found += [f"{at}: too long"] if len(value) > schema.get("maxLength", 10**9) else []
        found += (
            [f"{at}: {value!r} does not match"]
            if "pattern" in schema and not re.search(schema["pattern"], value)
            else []
        )
    if isinstance(value, int | float) and not schema.get("minimum", -1e308) <= value <= schema.get("maximum", 1e308):
        found.append(f"{at}: {value} is out of range")
    for word, most in (("anyOf", 10**9), ("oneOf", 1)):
        if word in schema:
            each = [faults(value, one, document, at) for one in schema[word]]
            if not 1 <= sum(not one for one in each) <= most:
                found += [f"{at}: {word}", *(line for one in each for line in one)]
    return found + _inside(value, schema, document, at)


def _inside(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], at: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, list):
        found += [f"{at}: too few"] if len(value) < schema.get("minItems", 0) else []
        for i, each in enumerate(value):
            found += faults(each, schema.get("items", {}), document, f"{at}[{i}]")
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
        for name, each in value.items():
            if name not in properties and others is False:
                found.append(f"{at}: {name} is not declared")
            else:
                found += faults(each, properties.get(name, others or {}), document, f"{at}.{name}")
    return found


def resolve(reference: str, document: Mapping[str, Any]) -> Any:
    """What a reference inside the document means. Raises KeyError."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _is(value: Any, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names if name != "boolean")
