"""Tensors of the Open Inference Protocol <-> rows: names, datatypes and shapes, as JSON or as bytes behind it. Nothing is judged here.

A model of tables takes one element of each input for each row: shapes are [n] or [n, 1]. Bytes are those of the "binary tensor data"
extension: little-endian, rows one after another, text with its length (uint32) before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.validate import word

_DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2", "INT32": "<i4",
    "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DATATYPES = (*_DTYPES, "BYTES")
_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor: its elements row by row. A missing element is None (``null`` in JSON, NaN in bytes)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape, "data": self.data}

    def packed(self) -> bytes:
        """As bytes."""
        if self.datatype != "BYTES":
            return np.array(self.data, dtype=_DTYPES[self.datatype]).tobytes()
        texts = [text.encode() for text in self.data]
        return b"".join(len(text).to_bytes(_LENGTH, "little") + text for text in texts)


def read_rows(inputs: Any, tail: bytes, limit: int) -> list[dict[str, Any]]:
    """One object for each row out of a request's ``inputs`` and the bytes behind its JSON. Raises Refused.

    ``limit`` rows at most are taken apart (``batch_too_large``).
    """
    if not isinstance(inputs, list) or not inputs:
        raise Refused(
            "missing_field", "`inputs` holds no tensor", field="inputs", cure="send one tensor for each input"
        )
    columns: dict[str, Sequence[Any]] = {}
    rows = -1
    for i, each in enumerate(inputs):
        name, datatype, count = _read_head(each, f"inputs[{i}]")
        if name in columns:
            raise Refused("duplicate_key", f"the input {excerpt(name)} stands twice", field=name[:64])
        if count > limit:
            raise Refused("batch_too_large", f"the request has {count} rows, more than {limit}")
        if rows not in (-1, count):
            what = f"`{name[:64]}` has {count} rows, the inputs before it {rows}"
            raise Refused("wrong_shape", what, field=name[:64])
        rows = count
        columns[name], tail = _read_data(each, name, datatype, count, tail)
    if tail:
        raise Refused(
            "wrong_shape", f"{len(tail)} bytes are left behind the last tensor", cure="say each binary_data_size"
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def parameters_of(value: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The ``parameters`` of a request, an input or an output. Raises Refused."""
    found = value.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Refused("wrong_type", f"`{field}` is {word(found)}, not an object", field=field)
    return found


def _read_head(value: Any, field: str) -> tuple[str, str, int]:
    if not isinstance(value, dict):
        raise Refused("wrong_type", f"`{field}` is {word(value)}, not a tensor", field=field)
    if stranger := next((name for name in value if name not in _FIELDS), None):
        raise Refused("unknown_field", f"field {excerpt(stranger)} is not known", field=f"{field}.{stranger[:64]}")
    for name in ("name", "shape", "datatype"):
        if name not in value:
            raise Refused("missing_field", f"`{field}.{name}` is missing", field=f"{field}.{name}")
    name, datatype, shape = value["name"], value["datatype"], value["shape"]
    if not isinstance(name, str):
        raise Refused("wrong_type", f"`{field}.name` is {word(name)}, not text", field=f"{field}.name")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        cure = "send one of " + ", ".join(DATATYPES)
        raise Refused(
            "wrong_type", f"the datatype of `{name[:64]}` is {excerpt(datatype)}", field=f"{field}.datatype", cure=cure
        )
    plain = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not plain or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        what = f"the shape of `{name[:64]}` is {excerpt(shape)}, not [rows] or [rows, 1]"
        raise Refused("wrong_shape", what, field=f"{field}.shape", cure="send each input as a tensor of its own")
    return name, datatype, shape[0]


def _read_data(value: dict[str, Any], name: str, datatype: str, count: int, tail: bytes) -> tuple[Sequence[Any], bytes]:
    size = parameters_of(value, name).get("binary_data_size")
    if size is None:
        if "data" not in value:
            raise Refused("missing_field", f"`{name[:64]}` has no data", field=name[:64], cure="send `data`")
        return _read_json(value["data"], name[:64], datatype, count), tail
    if "data" in value:
        raise Refused("ambiguous_request", f"`{name[:64]}` has its data twice", field=name[:64], cure="send it once")
    if type(size) is not int or not 0 <= size <= len(tail):
        what = f"`{name[:64]}` has a binary_data_size of {excerpt(size)}, {len(tail)} bytes are left"
        raise Refused("wrong_shape", what, field=name[:64], cure="say how many bytes it has")
    return _unpack(tail[:size], name[:64], datatype, count), tail[size:]


def _read_json(data: Any, name: str, datatype: str, count: int) -> list[Any]:
    if not isinstance(data, list):
        raise Refused("wrong_type", f"the data of `{name}` is {word(data)}, not a list", field=name)
    flat = [inner for each in data for inner in (each if isinstance(each, list) else (each,))]
    if len(flat) != count:
        raise Refused("wrong_shape", f"`{name}` has {len(flat)} elements for {count} rows", field=name)
    for each in flat:
        if not (each is None or _fits(each, datatype)):
            raise Refused("wrong_type", f"`{name}` holds {word(each)} and is declared {datatype}", field=name)
    return flat


def _fits(value: Any, datatype: str) -> bool:
    if datatype == "BYTES":
        return isinstance(value, str)
    if isinstance(value, bool) or datatype == "BOOL":
        return isinstance(value, bool) and datatype == "BOOL"
    return isinstance(value, int) or (isinstance(value, float) and datatype.startswith("FP"))


def _unpack(data: bytes, name: str, datatype: str, count: int) -> list[Any]:
    found = _texts(data, name) if datatype == "BYTES" else None
    if found is None:
        dtype = np.dtype(_DTYPES[datatype])
        if len(data) != dtype.itemsize * count:
            raise Refused("wrong_shape", f"`{name}` has {len(data)} bytes for {count} rows of {datatype}", field=name)
        found = np.frombuffer(data, dtype=dtype).tolist()
        if datatype.startswith("FP"):
            found = [None if each != each else each for each in found]
    if len(found) != count:
        raise Refused("wrong_shape", f"`{name}` has {len(found)} elements for {count} rows", field=name)
    return found


def _texts(data: bytes, name: str) -> list[Any]:
    found, at = [], 0
    try:
        while at < len(data):
            end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "little")
            if at + _LENGTH > len(data) or end > len(data):
                raise Refused("wrong_shape", f"the bytes of `{name}` end inside an element", field=name)
            found.append(data[at + _LENGTH : end].decode())
            at = end
    except UnicodeDecodeError:
        raise Refused("wrong_type", f"`{name}` holds bytes that are not UTF-8", field=name) from None
    return found
