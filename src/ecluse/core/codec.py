"""Frozen dataclasses <-> plain JSON values: one canonical form for digests, ledger, declaration, settings and documents.

``to_plain`` writes, ``from_plain`` reads strictly (an unknown key is an error that names it), ``canonical`` is the byte form
digests are taken over: UTF-8 JSON, sorted keys, no spaces, no NaN. A dataclass in a union carries its class name under ``"kind"``;
a field with ``metadata={"plain": False}`` (a function of the user's) is left out.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, Union

from ecluse.core.errors import DeclarationError
from ecluse.core.instants import format_duration, format_instant, parse_duration, parse_instant

T = TypeVar("T")


def canonical(value: object) -> bytes:
    """The canonical JSON bytes of a value. Raises ValueError on NaN or infinity.

    >>> canonical({"b": 1, "a": (1.5, None)})
    b'{"a":[1.5,null],"b":1}'
    """
    return json.dumps(
        to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: object) -> str:
    """SHA-256 (hex) of the canonical form.

    >>> digest({"a": 1})[:8]
    '015abd7f'
    """
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def to_plain(value: object) -> Any:
    """Dataclasses, tuples, mappings, instants, durations and enums as JSON values."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # JSON has one kind of number: 0 and 0.0 must not give two digests
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if _is_plain(f)}
        return {"kind": type(value).__name__, **plain} if _is_tagged(type(value)) else plain
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, Sequence):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")


def tagged(cls: type[T]) -> type[T]:
    """Class decorator: write the class name under ``"kind"`` so that a union can be read back."""
    cls.__ecluse_tagged__ = True  # type: ignore[attr-defined]
    return cls


def _is_tagged(cls: type) -> bool:
    return bool(getattr(cls, "__ecluse_tagged__", False))


def from_plain(kind: type[T], value: Any, *, where: str = "", path: str = "") -> T:
    """Read a plain value as ``kind`` (a dataclass or any annotation). Strict: raises DeclarationError naming file and key.

    ``where`` names the file for messages, ``path`` the key read so far.
    """
    return typing.cast(T, _read(kind, value, where, path))


def _read(kind: Any, value: Any, where: str, path: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(typing.get_args(kind), value, where, path)
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices or isinstance(value, bool) != any(isinstance(c, bool) for c in choices if c == value):
            raise _wrong(value, "one of " + ", ".join(map(str, choices)), where, path)
        return value
    if origin in (tuple, list, Sequence, typing.get_origin(Sequence[int])):
        return _read_sequence(typing.get_args(kind), value, where, path)
    if origin in (dict, typing.get_origin(Mapping[str, int])):
        if not isinstance(value, Mapping):
            raise _wrong(value, "a table", where, path)
        item = typing.get_args(kind)[1]
        return {key: _read(item, each, where, _join(path, key)) for key, each in value.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where, path)
    return _read_scalar(kind, value, where, path)


def _read_scalar(kind: Any, value: Any, where: str, path: str) -> Any:
    if kind is datetime and isinstance(value, str):
        return parse_instant(value, where=f"{where}: {path}")
    if kind is timedelta and isinstance(value, str):
        return parse_duration(value, where=f"{where}: {path}")
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise _wrong(value, "one of " + ", ".join(str(each.value) for each in kind), where, path) from None
    names = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        timedelta: 'a duration like "45d"',
    }
    raise _wrong(value, names.get(kind, getattr(kind, "__name__", str(kind))), where, path)


def _read_sequence(args: tuple[Any, ...], value: Any, where: str, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(value, "a list", where, path)
    if (len(args) == 2 and args[1] is Ellipsis) or len(args) == 1:
        return tuple(_read(args[0], each, where, f"{path}[{i}]") for i, each in enumerate(value))
    if len(value) != len(args):
        raise _wrong(value, f"a list of {len(args)}", where, path)
    return tuple(
        _read(kind, each, where, f"{path}[{i}]") for i, (kind, each) in enumerate(zip(args, value, strict=True))
    )


def _read_union(options: tuple[Any, ...], value: Any, where: str, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    if isinstance(value, Mapping) and "kind" in value:
        for option in options:
            if getattr(option, "__name__", "") == value["kind"]:
                return _read(option, value, where, path)
    rest = [option for option in options if option is not type(None)]
    problem: DeclarationError | None = None
    for option in rest:
        try:
            return _read(option, value, where, path)
        except DeclarationError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _read_dataclass(kind: Any, value: Any, where: str, path: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(value, "a table", where, path)
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init and _is_plain(f)}
    given = {key: each for key, each in value.items() if not (key == "kind" and _is_tagged(kind))}
    for key in given:
        if key not in fields:
            near = difflib.get_close_matches(key, list(fields), 1)
            cure = f"did you mean `{near[0]}`?" if near else "known keys: " + ", ".join(sorted(fields))
            raise DeclarationError(f"unknown key `{_join(path, key)}`", where=where, cure=cure)
    missing = [name for name, f in fields.items() if name not in given and _required(f)]
    if missing:
        raise DeclarationError(f"`{_join(path, missing[0])}` is missing", where=where, cure="add it")
    read = {key: _read(hints[key], each, where, _join(path, key)) for key, each in given.items()}
    try:
        return kind(**read)
    except DeclarationError as error:
        if error.where:
            raise
        what = f"`{path}`: {error.what}" if path else error.what
        raise DeclarationError(what, where=where, cure=error.cure) from None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_plain(f: Any) -> bool:
    return bool(f.metadata.get("plain", True))


def _required(f: Any) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _wrong(value: Any, wanted: str, where: str, path: str) -> DeclarationError:
    return DeclarationError(f"`{path}` is {value!r}", where=where, cure=f"it must be {wanted}")
