"""Graph: a small builder of ONNX models in doubles, and the only importer of ``onnx``.

A graph has one input ``x``: double [n, F] and one output ``y``: double [n, K]. Equal nodes are made once, nodes that do not
lead to ``y`` are dropped, names are counters, and nothing of the machine, the clock or a library's version is written, so
the same calls give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import compose, helper, numpy_helper

from ecluse.core.errors import Corrupt, InvalidInput, Unsupported
from ecluse.training.compile.column import Column, Columns

FLOAT, INT64, BOOL, DOUBLE = 1, 7, 9, 11
"""Element types of ONNX tensors, as ``Cast`` wants them."""

ML = "ai.onnx.ml"
_OPSETS = {"": 21, ML: 5}
_IR_VERSION = 10
_EXTERNAL = b"\x0a\x08location"  # protobuf of the key that every tensor kept outside carries
_LARGEST = 2**31 - 1  # protobuf cannot hold more in one message

Attribute = int | float | str | list[int] | npt.NDArray[np.generic]


@dataclass(frozen=True)
class Port:
    """An input or output of a foreign model: its name, element type (see ``FLOAT``) and shape (None = any)."""

    name: str
    element: int
    shape: tuple[int | None, ...]


class Graph:
    """Collects nodes over the input ``x``; ``finish`` turns them into the bytes of a model.

    >>> graph = Graph(width=2)
    >>> total = graph.node("ReduceSum", "x", graph.constant(np.array([1])), width=1)
    >>> model = graph.finish(total)
    >>> model == graph.finish(total)
    True
    """

    def __init__(self, width: int) -> None:
        self.widths: dict[str, int] = {"x": width}
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[bytes, str] = {}
        self._constants: dict[str, onnx.TensorProto] = {}
        self._refused: list[Column] = []
        self._answered: set[Column] = set()
        self._opsets = dict(_OPSETS)

    def constant(self, value: npt.ArrayLike) -> str:
        """The name of a constant tensor; its dtype is the array's (double, int64, bool, float32)."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        tensor = numpy_helper.from_array(array)
        key = b"constant" + tensor.SerializeToString(deterministic=True)
        if key not in self._made:
            name = f"c{len(self._constants)}"
            tensor.name = name
            self._made[key], self._constants[name] = name, tensor
        return self._made[key]

    def node(self, op: str, *inputs: str, width: int | None = None, domain: str = "", **attributes: Attribute) -> str:
        """Add one node and return its output's name. ``width`` is the number of columns; by default the first input's."""
        node = onnx.NodeProto(op_type=op, domain=domain, input=inputs)
        for name in sorted(attributes):
            node.attribute.append(_attribute(name, attributes[name]))
        key = node.SerializeToString(deterministic=True)
        if key not in self._made:
            output = f"v{len(self._nodes)}"
            node.output.append(output)
            self._nodes.append(node)
            self._made[key] = output
            self.widths[output] = self.widths.get(inputs[0], 1) if width is None else width
        return self._made[key]

    def refuse(self, flags: Columns) -> None:
        """Answer NaN for the rows where one of ``flags`` (double, 0 or 1) is 1: scikit-learn would raise an error for them."""
        self._refused += [flag for flag in flags if flag not in self._refused]

    @property
    def refused(self) -> Columns:
        """All flags given to ``refuse``."""
        return tuple(self._refused)

    def answer_nan(self, flag: Column) -> bool:
        """Take it on to answer NaN where ``flag`` is 1, in every answer made from here on; False where that is done already."""
        done = flag in self._answered
        self._answered.add(flag)
        return not done

    def evaluate(self, tensors: list[str], x: npt.NDArray[np.float64]) -> list[npt.NDArray[np.generic]]:
        """The values of some tensors for the rows ``x``, double [n, F]: the graph so far, run by onnx itself."""
        from onnx.reference import ReferenceEvaluator  # needed by models with trees only

        nodes = _needed(self._nodes, set(tensors))
        model = self._model(
            nodes, [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in tensors]
        )
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(model).run(tensors, {"x": x}))

    def absorb(self, model: bytes, source: str) -> tuple[Port, ...]:
        """Take over the nodes of a foreign model that ``inspect`` accepts, reading ``source``; return its outputs."""
        foreign = _parse(model)
        entry, _ = _ports(foreign)
        prefixed = compose.add_prefix(foreign, "m/").graph
        self._opsets = {entry.domain: entry.version for entry in foreign.opset_import}
        self._constants.update({tensor.name: tensor for tensor in prefixed.initializer})
        for node in prefixed.node:
            node.input[:] = [source if name == "m/" + entry.name else name for name in node.input]
            node.name = ""
            self._nodes.append(node)
        return tuple(_port(value) for value in prefixed.output)

    def finish(self, y: str) -> bytes:
        """The model whose output is ``y`` (rows refused by ``refuse`` answer NaN), serialised canonically."""
        y = self._guard(y)
        nodes = _renamed(_needed(self._nodes, {y}), y, "y")
        model = self._model(nodes, [helper.make_tensor_value_info("y", DOUBLE, ["n", self.widths[y]])])
        if model.ByteSize() > _LARGEST:
            cure = "train fewer or smaller trees"
            raise Unsupported(f"a model of {model.ByteSize() / 1e9:.1f} GB", where="ONNX", cure=cure)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _guard(self, y: str) -> str:
        for flag in self._refused:
            if flag not in self._answered:
                one = self.node("Gather", flag.tensor, self.constant(np.array([flag.index])), axis=1, width=1)
                rows = self.node("Greater", one, self.constant(np.array(0.5)))
                y = self.node("Where", rows, self.constant(np.nan), y, width=self.widths[y])
        return y

    def _model(self, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        used = {name for node in nodes for name in node.input}
        model = onnx.ModelProto(ir_version=_IR_VERSION, producer_name="ecluse")
        opsets = sorted(self._opsets.items())
        model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in opsets)
        graph = model.graph
        graph.name = "model"
        graph.node.extend(nodes)
        graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)
        graph.input.append(helper.make_tensor_value_info("x", DOUBLE, ["n", self.widths["x"]]))
        graph.output.extend(outputs)
        return model


def inspect(model: bytes) -> tuple[Port, tuple[Port, ...]]:
    """The one input and the outputs of a foreign model.

    Raises Corrupt (not a model) and Unsupported (custom operators, external data, functions, loops, several inputs).
    """
    foreign = _parse(model)
    _refuse_foreign(foreign)
    return _ports(foreign)


def _ports(model: onnx.ModelProto) -> tuple[Port, tuple[Port, ...]]:
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1:
        cure = "export it with one tensor input [rows, features]"
        raise Unsupported(f"a model with {len(inputs)} inputs", where="ONNX", cure=cure)
    return _port(inputs[0]), tuple(_port(value) for value in model.graph.output)


def _attribute(name: str, value: Attribute) -> onnx.AttributeProto:
    if isinstance(value, np.ndarray):
        value = numpy_helper.from_array(value)
    if isinstance(value, list):  # of a forest: the helper would look at each of them several times
        return onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS, ints=value)
    attribute: onnx.AttributeProto = helper.make_attribute(name, value)
    return attribute


def _needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the wanted tensors depend on, in their order."""
    wanted, kept = set(wanted), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _renamed(nodes: list[onnx.NodeProto], old: str, new: str) -> list[onnx.NodeProto]:
    """The nodes with another name for one tensor; an Identity where no node makes it."""
    if not any(old in node.output for node in nodes):
        return [*nodes, onnx.NodeProto(op_type="Identity", input=[old], output=[new])]
    copies = []
    for node in nodes:
        if old not in (*node.input, *node.output):
            copies.append(node)
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [new if name == old else name for name in node.input]
        copy.output[:] = [new if name == old else name for name in node.output]
        copies.append(copy)
    return copies


def _parse(model: bytes) -> onnx.ModelProto:
    if _EXTERNAL in model:
        raise Unsupported("a model with external data", where="ONNX", cure="export it with its weights inside")
    try:
        parsed = onnx.load_model_from_string(model)
        onnx.checker.check_model(parsed)
    except Exception as error:  # protobuf and the checker raise classes of their own, which are not public
        raise Corrupt(f"bytes that are not an ONNX model: {error}", cure="export the model again") from error
    return parsed


def _refuse_foreign(model: onnx.ModelProto) -> None:
    cure = "export it with standard operators and its weights inside"
    domains = {entry.domain for entry in model.opset_import} | {node.domain for node in model.graph.node}
    if strange := sorted(domains - {"", "ai.onnx", ML}):
        raise Unsupported(f"operators of the domain {strange[0]!r}", where="ONNX", cure=cure)
    if len(model.functions):
        raise Unsupported("a model with local functions", where="ONNX", cure=cure)
    if any(
        attribute.type in (attribute.GRAPH, attribute.GRAPHS)
        for node in model.graph.node
        for attribute in node.attribute
    ):
        raise Unsupported("a model with loops or branches", where="ONNX", cure=cure)


def _port(value: onnx.ValueInfoProto) -> Port:
    if not value.type.HasField("tensor_type"):
        cure = "export plain tensors (for skl2onnx: options={'zipmap': False})"
        raise Unsupported(f"{value.name!r}, which is no tensor", where="ONNX", cure=cure)
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise InvalidInput(f"{value.name!r} has no shape", where="ONNX", cure="export it with its number of columns")
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return Port(value.name, tensor.elem_type, dims)
