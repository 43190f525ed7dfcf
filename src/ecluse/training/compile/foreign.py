"""A user's own ONNX model, brought to Écluse's convention: ``x`` double [n, F] in, ``y`` double [n, K] out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecluse.core.errors import InvalidInput, Unsupported
from ecluse.core.schema import Feature
from ecluse.training.compile.graph import DOUBLE, FLOAT, Graph, Port, inspect

_CURE = "export one float or double input [rows, features] and one output [rows, values]"


def wrap_onnx(model_bytes: bytes, features: Sequence[Feature], task: str, *, classes: int | None = None) -> bytes:
    """A model with one tensor input [n, F] (float or double) and an output [n, K] or [n], with names and types of ours.

    Of several outputs the last floating one is taken (scikit-learn converters answer label, then probabilities). For a
    binary task two columns become the second's probability; for a multiclass task ``classes`` (when given) must be the
    number of columns. Raises Corrupt, Unsupported or InvalidInput.
    """
    source, _ = inspect(model_bytes)
    if source.element not in (FLOAT, DOUBLE):
        raise Unsupported("an input that is not a floating tensor", where=source.name, cure=_CURE)
    if len(source.shape) != 2 or source.shape[1] not in (None, 0, len(features)):
        found = f"an input of shape {list(source.shape)} for {len(features)} features"
        raise InvalidInput(found, where=source.name, cure=_CURE)
    graph = Graph(len(features))
    entry = "x" if source.element == DOUBLE else graph.node("Cast", "x", to=FLOAT)
    ports = graph.absorb(model_bytes, entry)
    chosen = _answer_of([port for port in ports if port.element in (FLOAT, DOUBLE)], task)
    width = _width(chosen, task, classes)
    graph.widths[chosen.name] = width
    values = chosen.name if chosen.element == DOUBLE else graph.node("Cast", chosen.name, to=DOUBLE, width=width)
    if len(chosen.shape) == 1:
        values = graph.node("Reshape", values, graph.constant(np.array([-1, 1], dtype=np.int64)), width=1)
    if task == "binary" and width == 2:
        values = graph.node("Gather", values, graph.constant(np.array([1], dtype=np.int64)), axis=1, width=1)
    return graph.finish(values)


def _answer_of(ports: list[Port], task: str) -> Port:
    if not ports:
        cure = _CURE + " (for a regression of whole numbers: cast the output)"
        raise Unsupported(f"no floating output for a {task} task", where="ONNX", cure=cure)
    return ports[-1]


def _width(port: Port, task: str, classes: int | None) -> int:
    """Columns of the output; a [n] output has one. Refuses what the task cannot mean."""
    if len(port.shape) == 1:
        width: int | None = 1
    elif len(port.shape) == 2:
        width = port.shape[1] or classes
    else:
        raise InvalidInput(f"an output of {len(port.shape)} dimensions", where=port.name, cure=_CURE)
    allowed = {"binary": (1, 2), "regression": (1,), "multiclass": (classes,) if classes else (width,)}.get(task)
    if allowed is None:
        raise InvalidInput(f"unknown task {task!r}", where="ONNX", cure="use binary, multiclass or regression")
    if width is None or width not in allowed:
        raise InvalidInput(f"an output of {width} columns for a {task} task", where=port.name, cure=_CURE)
    return width
