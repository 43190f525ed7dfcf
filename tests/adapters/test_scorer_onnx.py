"""The scorer refuses what is not a model, and answers any number of rows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.errors import Corrupt, InvalidInput, Unsupported
from ecluse.training.compile.graph import DOUBLE, Graph


def doubled() -> bytes:
    graph = Graph(2)
    return graph.finish(graph.node("Add", "x", "x"))


@pytest.mark.parametrize("rows", [0, 1, 7, 16_384, 16_385])
def test_any_number_of_rows(rows: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    assert np.array_equal(OnnxScorer(doubled()).score(x), x + x)


def test_rows_not_contiguous() -> None:
    x = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    assert np.array_equal(OnnxScorer(doubled()).score(x[::-1]), 2 * x[::-1])


@pytest.mark.parametrize(
    "x", [np.zeros(2), np.zeros((1, 3)), np.zeros((1, 2), dtype=np.float32), np.zeros((1, 2, 1))], ids=str
)
def test_wrong_shapes_are_refused(x: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=r"float64 \[rows, 2\]"):
        OnnxScorer(doubled()).score(x)


@pytest.mark.parametrize(
    "model", [b"", b"not a model", doubled()[:-20], b"\x80\x04\x95pickle"], ids=["empty", "text", "cut", "pickle"]
)
def test_bytes_that_are_not_a_model(model: bytes) -> None:
    with pytest.raises(Corrupt):
        OnnxScorer(model)


def test_a_model_of_another_shape() -> None:
    model = onnx.load_model_from_string(doubled())
    model.graph.input[0].name = model.graph.node[0].input[0] = model.graph.node[0].input[1] = "other"
    with pytest.raises(Corrupt, match="other"):
        OnnxScorer(model.SerializeToString())


def test_external_data_is_refused_before_any_file_is_read() -> None:
    weights = onnx.TensorProto(name="w", data_type=DOUBLE, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="../../etc/passwd")
    ports = [helper.make_tensor_value_info(name, DOUBLE, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], initializer=[weights]
    )
    with pytest.raises(Unsupported, match="external data"):
        OnnxScorer(helper.make_model(graph).SerializeToString())
