"""Models that are right in form and do harm when they are loaded or run: real ONNX, parsed by the real library."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from tests.serving.house import FEATURES, SCHEMA, bundle

from ecluse.core.bundle import Bundle, make_bundle


def with_model(model: bytes) -> Bundle:
    """A bundle that is right but for its model."""
    base = bundle(1.0)
    files = {**base.files, "model.onnx": model}
    return make_bundle(
        model=SCHEMA.model, scorer="onnx", recipe="r", dataset="d", split=base.manifest.split, files=files
    )


@cache
def crashing(depth: int = 200_000) -> bytes:
    """One tree so deep that reading it overflows the stack: the process that does ends by SIGSEGV."""
    import onnx
    from onnx import helper

    nodes = 2 * depth + 1
    branches = [i < depth for i in range(nodes)]
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["narrow"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0] * nodes,
        nodes_nodeids=list(range(nodes)),
        nodes_featureids=[0] * nodes,
        nodes_modes=["BRANCH_LEQ" if branch else "LEAF" for branch in branches],
        nodes_truenodeids=[i + 1 if branch else 0 for i, branch in enumerate(branches)],
        nodes_falsenodeids=[depth + 1 + i if branch else 0 for i, branch in enumerate(branches)],
        nodes_values_as_tensor=helper.make_tensor("v", onnx.TensorProto.DOUBLE, [nodes], [0.0] * nodes),
        target_treeids=[0],
        target_nodeids=[depth],
        target_ids=[0],
        target_weights_as_tensor=helper.make_tensor("t", onnx.TensorProto.DOUBLE, [1], [1.0]),
    )
    return _graph([tree, helper.make_node("Cast", ["narrow"], ["y"], to=onnx.TensorProto.DOUBLE)], [])


@cache
def hungry(doubles: int) -> bytes:
    """So many doubles on the way to an answer."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceSum", ["x", "columns"], ["sums"]),
        helper.make_node("ReduceMax", ["sums"], ["one"], keepdims=1),
        helper.make_node("Expand", ["one", "shape"], ["many"]),
        helper.make_node("ReduceMax", ["many"], ["most"], keepdims=1),
        helper.make_node("Add", ["sums", "most"], ["y"]),
    ]
    return _graph(nodes, [_array("columns", [1], np.int64), _array("shape", [doubles, 1], np.int64)])


@cache
def swollen(doubles: int) -> bytes:
    """So many doubles while it is loaded: a constant worked out in advance."""
    import onnx
    from onnx import helper

    one = helper.make_tensor("value", onnx.TensorProto.DOUBLE, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["many"], value=one),
        helper.make_node("ReduceSum", ["many"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["x", "columns"], ["sums"]),
        helper.make_node("Mul", ["sums", "total"], ["y"]),
    ]
    return _graph(nodes, [_array("columns", [1], np.int64), _array("shape", [doubles], np.int64)])


@cache
def sociable() -> bytes:
    """What a row is answered depends on the others."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceSum", ["x", "columns"], ["sums"]),
        helper.make_node("ReduceMax", ["sums"], ["most"], keepdims=1),
        helper.make_node("Sub", ["sums", "most"], ["y"]),
    ]
    return _graph(nodes, [_array("columns", [1], np.int64)])


@cache
def picky(hours: float) -> bytes:
    """It answers a half, and fails as a whole when a row holds so many hours."""
    import onnx
    from onnx import helper

    nodes = [
        helper.make_node("Gather", ["x", "column"], ["held"], axis=1),
        helper.make_node("Equal", ["held", "refused"], ["wrong"]),
        helper.make_node("Cast", ["wrong"], ["place"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["found"], axis=0),
        helper.make_node("Reshape", ["found", "shape"], ["y"]),
    ]
    given = [_array("column", [3], np.int64), _array("refused", hours, np.float64), _array("table", [0.5], np.float64)]
    return _graph(nodes, [*given, _array("shape", [-1, 1], np.int64)])


@cache
def endless() -> bytes:
    """It loads, and answers never."""
    import onnx
    from onnx import helper

    port = helper.make_tensor_value_info
    double, truth, number = onnx.TensorProto.DOUBLE, onnx.TensorProto.BOOL, onnx.TensorProto.INT64
    steps = [helper.make_node("Identity", ["more"], ["again"]), helper.make_node("Cos", ["v"], ["w"])]
    taken = [port("i", number, []), port("more", truth, []), port("v", double, None)]
    body = helper.make_graph(steps, "body", taken, [port("again", truth, []), port("w", double, None)])
    nodes = [
        helper.make_node("ReduceSum", ["x", "columns"], ["sums"]),
        helper.make_node("Loop", ["trips", "yes", "sums"], ["y"], body=body),
    ]
    given = [_array("columns", [1], np.int64), _array("trips", 2**60, np.int64), _array("yes", True, np.bool_)]
    return _graph(nodes, given)


def _graph(nodes: list[Any], initializers: list[Any]) -> bytes:
    import onnx
    from onnx import helper

    shapes = (("x", len(FEATURES)), ("y", 1))
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, ["n", k]) for name, k in shapes]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], initializer=initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    data: bytes = helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString()
    return data


def _array(name: str, values: Any, dtype: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(values, dtype=dtype), name)
