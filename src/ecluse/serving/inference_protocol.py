"""The Open Inference Protocol (v2) over HTTP, with its binary tensor extension: what clients of KServe, Seldon and Triton speak.

It only translates: tensors become rows as ``POST /predict`` takes them, answers become tensors. A request is answered whole or refused.
Specification: https://github.com/kserve/open-inference-protocol (inference_rest.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ecluse.core.contract import Boolean, Column, Integer, Number
from ecluse.serving.admission import Admitted
from ecluse.serving.answers import take_request_id
from ecluse.serving.batch import Said, all_said, answer_rows, take
from ecluse.serving.call import OCTETS, Call, Reply
from ecluse.serving.choice import choose_version, read_number
from ecluse.serving.health import own_version, unready
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.rows import as_request
from ecluse.serving.scorers import Loaded
from ecluse.serving.tensors import Tensor, parameters_of, read_rows
from ecluse.serving.validate import parse_object, word

HEADER_LENGTH = b"inference-header-content-length"
_FIELDS = frozenset({"id", "parameters", "inputs", "outputs"})
_encode = msgspec.json.Encoder().encode


async def server(plane: Plane, call: Call) -> Reply:
    """GET /v2: name, version and extensions of this server."""
    return Reply(200, _encode({"name": "ecluse", "version": own_version(), "extensions": ["binary_tensor_data"]}))


async def live(plane: Plane, call: Call) -> Reply:
    """GET /v2/health/live: 200 while the process answers."""
    return Reply(200, _encode({"live": True}))


async def ready(plane: Plane, call: Call) -> Reply:
    """GET /v2/health/ready: 200, or 503 and why."""
    if (refused := unready(plane)) is not None:
        raise refused
    return Reply(200, _encode({"live": True, "ready": True}))


async def model_ready(plane: Plane, call: Call) -> Reply:
    """GET /v2/models/{name}/ready: 200 when a version of it answers."""
    loaded = _choose(plane, call)
    return Reply(200, _encode({"name": loaded.model, "ready": True}))


async def model(plane: Plane, call: Call) -> Reply:
    """GET /v2/models/{name}: inputs and outputs, out of the version's schema."""
    loaded = _choose(plane, call)
    return Reply(200, _encode(metadata(loaded)), headers=loaded.headers)


async def infer(plane: Plane, call: Call) -> Reply:
    """POST /v2/models/{name}/infer: a prediction for each row of the tensors, all or none."""
    body = bytes(call.body)
    async with Admitted(plane, call):
        loaded = _choose(plane, call)
        head, tail = _split(call, body)
        value = _read(parse_object(head))
        take_request_id(call, value.get("id") or None, "id")
        asked = _requested(value, loaded)
        parameters = parameters_of(value, "parameters")
        moment = {"as_of": parameters["as_of"]} if "as_of" in parameters else {}
        rows = read_rows(value.get("inputs"), tail, plane.serving.max_batch)
        if moment and rows and "as_of" in rows[0]:
            raise Refused(
                "ambiguous_request", "`as_of` is a parameter and an input", field="as_of", cure="send it once"
            )
        requests = [as_request({**row, **moment}, loaded.form) for row in rows]
        said = all_said(await answer_rows(plane, call, loaded, requests, all_or_none=True))
    found = make_outputs(loaded, said)
    binary = bool(parameters.get("binary_data_output"))
    return _reply(
        call,
        loaded,
        [found[name] for name in asked],
        {name for name, own in asked.items() if (binary if own is None else own)},
    )


def metadata(loaded: Loaded) -> dict[str, Any]:
    """The protocol's description of a version. Inputs are explicit features where the model takes them, else keys; then ``entity_inputs``."""
    schema, form = loaded.schema, loaded.form
    fields = [_describe(name, schema.columns[name]) for name in schema.request]
    kinds = {column: entity.kind for entity in form.entities for column in entity.columns}
    keyed = [
        {"name": name, "datatype": "INT64" if kind == "integer" else "BYTES", "shape": [-1]}
        for name, kind in kinds.items()
    ] + fields
    explicit = [_describe(name, schema.columns[name]) for name in form.stored] + fields
    found: dict[str, Any] = {
        "name": loaded.model,
        "versions": [str(loaded.number)],
        "platform": "ecluse_process" if loaded.blocking else "ecluse_onnx",
        "inputs": keyed if schema.accepts == "entity" else explicit,
        "outputs": [_shape(name, datatype, loaded) for name, datatype, _ in _outputs(loaded)],
    }
    if schema.accepts == "both" and form.entities:
        found["entity_inputs"] = keyed
    if schema.classes:
        found["classes"] = schema.classes
    return found


def make_outputs(loaded: Loaded, said: Sequence[Said]) -> dict[str, Tensor]:
    """Every output of the answered rows, by name."""
    found = {}
    for name, datatype, read in _outputs(loaded):
        values = [read(each.answer) for each in said]
        if name == "probabilities":
            flat = [share for row in values for share in row.values()]
            found[name] = Tensor(name, datatype, (len(said), len(loaded.schema.classes)), flat)
        else:
            found[name] = Tensor(name, datatype, (len(said),), values)
    return found


def _outputs(loaded: Loaded) -> list[tuple[str, str, Callable[[Mapping[str, Any]], Any]]]:
    """(name, datatype, how it is read off an answer)."""
    task = loaded.schema.task
    score = {"binary": "proba", "multiclass": "probabilities"}.get(task, "value")
    found: list[tuple[str, str, Callable[[Mapping[str, Any]], Any]]] = [(score, "FP64", lambda answer: answer[score])]
    if task == "multiclass" or (task == "binary" and loaded.threshold is not None):
        found.append(("decision", "BOOL" if task == "binary" else "BYTES", lambda answer: answer["decision"]))
    return [
        *found,
        ("request_id", "BYTES", lambda answer: answer["request_id"]),
        ("prediction_id", "BYTES", lambda answer: answer["prediction_id"]),
        ("degraded", "BYTES", lambda answer: "; ".join(answer["degraded"])),
        ("unseen", "BYTES", lambda answer: ",".join(answer["unseen"])),
    ]


def _choose(plane: Plane, call: Call) -> Loaded:
    asked = call.parameters.get("version")
    number = None if asked is None else read_number(asked)
    return take(call, choose_version(plane, call.parameters["name"], number, call.grant))


def _split(call: Call, body: bytes) -> tuple[bytes, bytes]:
    declared = call.headers.get(HEADER_LENGTH)
    if declared is None:
        return body, b""
    if not declared.isdigit() or len(declared) > 12 or int(declared) > len(body):
        what = (
            f"Inference-Header-Content-Length is {excerpt(declared.decode('latin-1'))}, the body has {len(body)} bytes"
        )
        raise Refused("wrong_shape", what, cure="say how many bytes of the body are JSON")
    return body[: int(declared)], body[int(declared) :]


def _read(value: dict[str, Any]) -> dict[str, Any]:
    for name in value:
        if name not in _FIELDS:
            raise Refused(
                "unknown_field",
                f"field {excerpt(name)} is not known",
                field=name[:64],
                cure="known fields: " + ", ".join(sorted(_FIELDS)),
            )
    return value


def _requested(value: Mapping[str, Any], loaded: Loaded) -> dict[str, bool | None]:
    """The outputs asked for: name -> as bytes or not, None where the request's own parameter says."""
    known, asked = [name for name, *_ in _outputs(loaded)], value.get("outputs")
    if not asked:
        return dict.fromkeys(known)
    if not isinstance(asked, list):
        raise Refused("wrong_type", f"`outputs` is {word(asked)}, not a list", field="outputs")
    found: dict[str, bool | None] = {}
    for i, each in enumerate(asked):
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name not in known:
            what = f"no output {excerpt(name if isinstance(each, dict) else each)}"
            raise Refused("unknown_field", what, field=f"outputs[{i}]", cure="outputs: " + ", ".join(known))
        own = parameters_of(each, f"outputs[{i}].parameters").get("binary_data")
        found[name] = None if own is None else bool(own)
    return found


def _reply(call: Call, loaded: Loaded, outputs: Sequence[Tensor], binary: set[str]) -> Reply:
    plain, tail = [], []
    for tensor in outputs:
        shown = tensor.plain()
        if tensor.name in binary:
            tail.append(tensor.packed())
            del shown["data"]
            shown["parameters"] = {"binary_data_size": len(tail[-1])}
        plain.append(shown)
    head = _encode({"id": call.request_id, "model_name": call.model, "model_version": call.version, "outputs": plain})
    if not tail:
        return Reply(200, head, headers=loaded.headers)
    length = [(HEADER_LENGTH, str(len(head)).encode())]
    return Reply(200, head + b"".join(tail), OCTETS, [*loaded.headers, *length])


def _describe(name: str, column: Column) -> dict[str, Any]:
    datatype = (
        "FP64"
        if isinstance(column, Number)
        else "INT64"
        if isinstance(column, Integer)
        else "BOOL"
        if isinstance(column, Boolean)
        else "BYTES"
    )
    return {"name": name, "datatype": datatype, "shape": [-1]}


def _shape(name: str, datatype: str, loaded: Loaded) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": [-1, len(loaded.schema.classes)] if name == "probabilities" else [-1],
    }
