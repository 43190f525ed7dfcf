"""Answer: what a compiled estimator says, as tensors of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecluse.core.errors import Unsupported
from ecluse.training.compile.column import Columns
from ecluse.training.compile.graph import Graph


@dataclass(frozen=True)
class Answer:
    """``values``: double [n, K], probabilities (K = 1 for two classes: the second's) or one number; "" where there are none.

    ``margin``: double [n, K], what ``decision_function`` says, "" where the estimator has none. ``classes`` is None for
    regression.
    """

    values: str
    margin: str = ""
    classes: np.ndarray | None = None


Walk = Callable[[Graph, Any, Columns], Answer]
"""Compiles any estimator: given to the ones that hold others."""


def unsupported(estimator: Any, why: str, cure: str) -> Unsupported:
    """The error for an estimator that cannot be compiled as it is configured."""
    return Unsupported(f"{type(estimator).__name__}: {why}", where="training/compile", cure=cure)


def sigmoid(graph: Graph, minus: str) -> str:
    """1 / (1 + exp(``minus``)), by parts: onnxruntime's own Sigmoid saturates early for large negative margins."""
    return graph.node("Reciprocal", graph.node("Add", graph.node("Exp", minus), graph.constant(np.array(1.0))))


def softmax(graph: Graph, margin: str) -> str:
    """Softmax over the columns."""
    return graph.node("Softmax", margin, axis=1)


def normalise(graph: Graph, shares: str) -> str:
    """Rows divided by their sum; a row of zeros becomes the uniform distribution."""
    width = graph.widths[shares]
    total = graph.node("ReduceSum", shares, graph.constant(np.array([1])), width=1)
    empty = graph.node("Equal", total, graph.constant(np.array(0.0)))
    return graph.node(
        "Where", empty, graph.constant(np.full(width, 1.0 / width)), graph.node("Div", shares, total), width=width
    )


def constant_rows(graph: Graph, row: np.ndarray) -> str:
    """The same row [K] for every row of ``x``."""
    count = graph.node("Shape", "x", start=0, end=1)
    shape = graph.node("Concat", count, graph.constant(np.array([len(row)])), axis=0)
    return graph.node("Expand", graph.constant(row.reshape(1, -1).astype(np.float64)), shape, width=len(row))


def distribution(graph: Graph, score: Callable[[float], str], classes: np.ndarray) -> Answer:
    """Sigmoid for two classes, softmax for more. ``score`` makes the margin [n, K], times what it is given.

    For two classes the negative margin is made, which is what a sigmoid begins with.
    """
    if len(classes) == 2:
        minus = score(-1.0)
        return Answer(sigmoid(graph, minus), graph.node("Neg", minus), classes)
    margin = score(1.0)
    return Answer(softmax(graph, margin), margin, classes)
