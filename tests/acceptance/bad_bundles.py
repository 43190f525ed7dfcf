"""Releases that must not be served, one of each kind: each is put into a house under a number, and says what the worker must answer to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from tests.acceptance.plane_house import version
from tests.serving.house import FEATURES, House, bundle, other_sealer, with_schema

from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.codec import canonical
from ecluse.core.schema import Feature

WIDE, VAST = 1 << 30, 10**12
"""Doubles of a result in between: 8 GiB, which this machine may have, and 8 TB, which it has not."""


@dataclass(frozen=True)
class Bad:
    """``plant`` puts it into the house; ``reasons``: what is said of it holds one of these. ``slow``: it takes seconds to find out."""

    plant: Callable[[House, int], object]
    reasons: tuple[str, ...]
    slow: bool = False


def _with(number: int, **files: bytes) -> Bundle:
    made = version(number)
    every = {**made.files, **{name.replace("_", "."): data for name, data in files.items()}}
    return make_bundle(
        model="churn", scorer="onnx", recipe=f"r{number}", dataset="d", split=made.manifest.split, files=every
    )


def with_model(number: int, model: bytes) -> Bundle:
    """A version's bundle with another model in it."""
    return _with(number, model_onnx=model)


def _of_model(model: Callable[[], bytes]) -> Callable[[House, int], object]:
    return lambda house, number: house.add(number, with_model(number, model()))


def _corrupt(house: House, number: int) -> None:
    path = house.home / "bundles" / house.add(number, version(number)) / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _unsigned(house: House, number: int) -> None:
    digest = house.add(number, version(number))
    (house.home / "bundles" / f"{digest}.beside" / "seal.json").unlink()


def _missing(house: House, number: int) -> None:
    (house.home / "bundles" / house.add(number, version(number)) / "model.onnx").unlink()


def _gone(house: House, number: int) -> None:
    house.served["churn"][number] = f"{number:064x}"


def _of_a_format_to_come(house: House, number: int) -> None:
    made = version(number)
    house.add(number, Bundle(replace(made.manifest, format=99), made.files))


def _other_schema(house: House, number: int) -> None:
    schema = with_schema(features=(*FEATURES, Feature("zeal", "number")))
    house.add(number, _with(number, schema_json=canonical(schema)))


def _graph(nodes: list[Any], initializers: list[Any]) -> bytes:
    import onnx
    from onnx import helper

    ports = [
        helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, ["n", k]) for n, k in (("x", len(FEATURES)), ("y", 1))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], initializer=initializers)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    data: bytes = model.SerializeToString()
    return data


def _array(name: str, values: Any, dtype: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


@cache
def no_numbers() -> bytes:
    """Every answer is NaN."""
    from onnx import helper

    weights = _array("w", [[np.nan]] * len(FEATURES), np.float64)
    return _graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [weights])


def hungry(doubles: int) -> bytes:
    """Takes so many doubles to answer."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceSum", ["x", "columns"], ["sums"]),  # [n, 1]
        helper.make_node("ReduceMax", ["sums"], ["one"], keepdims=1),  # [1, 1]
        helper.make_node("Expand", ["one", "shape"], ["many"]),
        helper.make_node("ReduceMax", ["many"], ["most"], keepdims=1),
        helper.make_node("Add", ["sums", "most"], ["y"]),
    ]
    return _graph(nodes, [_array("columns", [1], np.int64), _array("shape", [doubles, 1], np.int64)])


@cache
def endless() -> bytes:
    """Does not end."""
    import onnx
    from onnx import helper

    double = helper.make_tensor_value_info("v", onnx.TensorProto.DOUBLE, None)
    more = helper.make_tensor_value_info("more", onnx.TensorProto.BOOL, [])
    again = helper.make_tensor_value_info("again", onnx.TensorProto.BOOL, [])
    number = helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [])
    last = helper.make_tensor_value_info("w", onnx.TensorProto.DOUBLE, None)
    steps = [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Cos", ["v"], ["w"])]
    body = helper.make_graph(steps, "body", [number, more, double], [again, last])
    nodes = [
        helper.make_node("ReduceSum", ["x", "columns"], ["sums"]),
        helper.make_node("Loop", ["trips", "yes", "sums"], ["y"], body=body),
    ]
    initializers = [_array("columns", [1], np.int64), _array("trips", 2**60, np.int64), _array("yes", True, np.bool_)]
    return _graph(nodes, initializers)


BAD: dict[str, Bad] = {
    "corrupt": Bad(_corrupt, ("does not match",)),
    "unsigned": Bad(_unsigned, ("seal", "not here")),
    "signed by a stranger": Bad(lambda h, n: h.add(n, version(n), sealer=other_sealer()), ("not trusted",)),
    "a file missing": Bad(_missing, ("other files", "cannot be read", "model.onnx")),
    "not there at all": Bad(_gone, ("not here",)),
    "of a format to come": Bad(_of_a_format_to_come, ("format",)),
    "no model but a pickle": Bad(_of_model(lambda: pickle.dumps({"a": 1})), ("not a model",)),
    "another schema than the model's": Bad(_other_schema, ("float64",)),
    "NaN on its smoke rows": Bad(_of_model(no_numbers), ("smoke rows",)),
    "other answers on its smoke rows": Bad(lambda h, n: h.add(n, bundle(0.9, smoke_error=0.01)), ("smoke rows",)),
    "terabytes to answer": Bad(_of_model(lambda: hungry(VAST)), ("memory", "alloc", "Expand")),
    "gigabytes to answer": Bad(_of_model(lambda: hungry(WIDE)), ("memory", "alloc", "Expand"), slow=True),
    "no end": Bad(_of_model(endless), ("seconds", "time", "killed", "CPU"), slow=True),
}
