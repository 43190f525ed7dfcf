"""Scoring a compiled model with onnxruntime, in the caller's thread; the only importer of ``onnxruntime``."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ecluse.core.errors import Corrupt, InvalidInput, Unsupported

_ROWS = 16_384  # rows scored at once: bounds memory for forests with many classes (trees x classes doubles a row)
# Protobuf of a tensor's external_data key, without which onnxruntime reads no file; a parser takes a tag and a length written longer, too.
_EXTERNAL = re.compile(rb"(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")

_OUTPUTS = ["y"]
Matrix = npt.NDArray[np.float64]


class OnnxScorer:
    """A model held in memory: ``score`` takes the encoded matrix, double [n, F], and answers double [n, K].

    Safe to call from several threads at once. Raises Corrupt when the bytes are not a model with one double input "x" and
    one double output "y", Unsupported when the model wants files beside it (external data). A row the model cannot answer
    (a category its encoder refuses) answers NaN.
    """

    def __init__(self, model: bytes) -> None:
        self._session = _session(model)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [(port.name, port.type, len(port.shape)) for port in (*inputs, *outputs)]
        if shapes != [("x", "tensor(double)", 2), ("y", "tensor(double)", 2)]:
            raise Corrupt(f"a model of {shapes}", where="scorer", cure="package the version again")
        self.features: int = inputs[0].shape[1]
        self.outputs: int = outputs[0].shape[1]
        # the session beneath, without the checks of names (3.5 us) that the shapes above make needless
        self._run = getattr(self._session, "_sess", self._session).run

    def score(self, x: Matrix) -> Matrix:
        """Answers for the rows of ``x``, [n, K]. Raises InvalidInput for another shape or dtype."""
        if x.ndim != 2 or x.shape[1] != self.features or x.dtype != np.float64:
            found = f"{x.dtype} {list(x.shape)} instead of float64 [rows, {self.features}]"
            raise InvalidInput(found, where="scorer", cure="encode the rows with the version's schema")
        if 0 < x.shape[0] <= _ROWS:
            answer: Matrix = self._run(_OUTPUTS, {"x": x}, None)[0]
            return answer
        if x.shape[0] == 0:
            return np.empty((0, self.outputs))
        return np.concatenate([self.score(x[start : start + _ROWS]) for start in range(0, x.shape[0], _ROWS)])


def _session(model: bytes) -> ort.InferenceSession:
    # found before onnxruntime could open the file it names; the pattern is slow on models of many megabytes without the word
    if b"location" in model and _EXTERNAL.search(model):
        raise Unsupported("a model with external data", where="scorer", cure="export it with its weights inside")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # the next level fuses scaled products with single-precision factors: measured 1e-7 off
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4  # errors are raised; nothing is written to standard error
    options.use_deterministic_compute = True
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own C++ module, which share no public base
        raise Corrupt(
            f"bytes that are not a model: {str(error)[:200]}", where="scorer", cure="package the version again"
        ) from error
