"""Users' own ONNX models, brought to our convention or refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.errors import Corrupt, EcluseError, InvalidInput, Unsupported
from ecluse.core.schema import Feature
from ecluse.training.compile.foreign import wrap_onnx

FEATURES = (Feature("a", "number"), Feature("b", "number"))
X = np.array([[1.0, 2.0], [-3.0, 0.5], [0.25, 0.125]])
WEIGHTS = np.array([[1.0, -1.0, 0.5], [2.0, 0.5, -2.0]])


def model(
    columns: int, element: int = TensorProto.FLOAT, width: int | None = 2, domain: str = "", flat: bool = False
) -> onnx.ModelProto:
    """X @ WEIGHTS[:, :columns], softmax; a label output beside it, as converters write."""
    dtype = np.float32 if element == TensorProto.FLOAT else np.float64
    weights = numpy_helper.from_array(WEIGHTS[:, :columns].astype(dtype), "w")
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["z"]),
        helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["z"], ["p"], axis=1, domain=domain),
    ]
    if flat:
        nodes[-1] = helper.make_node("ReduceSum", ["z", "axis"], ["p"], keepdims=0)
    shape: list[str | int | None] = ["n"] if flat else ["n", columns]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("p", element, shape),
    ]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    entry = helper.make_tensor_value_info("input", element, ["n", width])
    graph = helper.make_graph(nodes, "g", [entry], outputs, initializer=[weights, axis])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def softmax(columns: int) -> np.ndarray:
    z: np.ndarray = X @ WEIGHTS[:, :columns]
    return np.asarray(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("element", "near"), [(TensorProto.FLOAT, 1e-6), (TensorProto.DOUBLE, 1e-15)])
def test_two_columns_become_the_second_class(element: int, near: float) -> None:
    wrapped = wrap_onnx(model(2, element).SerializeToString(), FEATURES, "binary")
    assert wrapped == wrap_onnx(model(2, element).SerializeToString(), FEATURES, "binary")
    scored = OnnxScorer(wrapped).score(X)
    assert scored.shape == (3, 1)
    assert np.abs(scored - softmax(2)[:, 1:]).max() < near


def test_many_classes_and_unknown_width() -> None:
    for width in (2, None):
        scored = OnnxScorer(
            wrap_onnx(model(3, TensorProto.DOUBLE, width).SerializeToString(), FEATURES, "multiclass", classes=3)
        ).score(X)
        assert np.abs(scored - softmax(3)).max() < 1e-15


def test_flat_output_is_a_column() -> None:
    scored = OnnxScorer(
        wrap_onnx(model(2, TensorProto.DOUBLE, flat=True).SerializeToString(), FEATURES, "regression")
    ).score(X)
    assert np.allclose(scored, (X @ WEIGHTS[:, :2]).sum(axis=1, keepdims=True), atol=1e-15)


def external() -> onnx.ModelProto:
    made = model(2)
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    return made


def text_input() -> onnx.ModelProto:
    entry = helper.make_tensor_value_info("input", TensorProto.STRING, ["n", 2])
    out = helper.make_tensor_value_info("p", TensorProto.STRING, ["n", 2])
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["p"])], "g", [entry], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_inputs() -> onnx.ModelProto:
    made = model(2)
    made.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 2]))
    return made


@pytest.mark.parametrize(("bad", "task", "error", "says"), [
    (model(2, domain="com.example"), "binary", Unsupported, "com.example"),
    (external(), "binary", EcluseError, "external|weights"),
    (text_input(), "binary", Unsupported, "floating"),
    (two_inputs(), "binary", Unsupported, "2 inputs"),
    (model(2, width=5), "binary", InvalidInput, "2 features"),
    (model(3), "binary", InvalidInput, "3 columns"),
    (model(2), "regression", InvalidInput, "2 columns"),
    (model(2), "ranking", InvalidInput, "ranking"),
], ids=["domain", "external", "text", "inputs", "width", "classes", "regression", "task"])  # fmt: skip
def test_refused(bad: onnx.ModelProto, task: str, error: type[EcluseError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        wrap_onnx(bad.SerializeToString(), FEATURES, task)
    assert caught.value.cure


def test_not_a_model() -> None:
    with pytest.raises(Corrupt):
        wrap_onnx(b"\x08\x01nonsense", FEATURES, "binary")
