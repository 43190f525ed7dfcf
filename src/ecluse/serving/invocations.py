"""MLflow's scoring protocol: ``POST /invocations`` with a frame in any of its forms, or CSV; answers ``{"predictions": […]}``.

It only translates: a frame's rows become rows as ``POST /predict`` takes them. The predictions are those the mirrored model's
``mlflow.pyfunc`` makes: a double for each row, or a list of them with several classes. A frame is answered whole or refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ecluse.serving.admission import Admitted
from ecluse.serving.batch import Said, all_said, answer_rows, check_rows, concerns, take
from ecluse.serving.call import CSV, JSON, Call, Reply
from ecluse.serving.choice import choose
from ecluse.serving.plane import Plane
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.rows import as_request, typed
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import Form, parse_object, word

_encode = msgspec.json.Encoder().encode


async def invocations(plane: Plane, call: Call) -> Reply:
    """POST /invocations: a prediction for each row of a frame, all or none."""
    async with Admitted(plane, call):
        loaded = take(call, choose(plane, call.parameters.get("name")))
        is_csv = call.headers.get(b"content-type", JSON).split(b";")[0].strip().lower() == CSV
        rows = read_csv(bytes(call.body), loaded.form) if is_csv else read_frame(parse_object(call.body))
        check_rows(plane, len(rows))
        requests = [as_request(row, loaded.form) if isinstance(row, dict) else row for row in rows]
        said = all_said(await answer_rows(plane, call, loaded, requests, all_or_none=True))
    predictions = [_prediction(each, loaded) for each in said]
    return Reply(200, _encode({"predictions": predictions}), headers=[*loaded.headers, *concerns(said)])


def read_frame(value: Mapping[str, Any]) -> list[Any]:
    """The rows in a JSON body. Raises Refused.

    >>> read_frame({"dataframe_split": {"columns": ["x", "plan"], "data": [[1, "Gold"]]}})
    [{'x': 1, 'plan': 'Gold'}]
    """
    forms = [name for name in value if name in _READERS]
    if stranger := next((name for name in value if name not in _READERS and name != "params"), None):
        raise Refused("unknown_field", f"field {excerpt(stranger)} is not known", field=stranger[:64], cure=_ONE_OF)
    if value.get("params") not in (None, {}):
        raise Refused("unknown_field", "the model takes no params", field="params", cure="leave `params` out")
    if len(forms) != 1:
        code = "ambiguous_request" if forms else "missing_field"
        raise Refused(code, f"the body holds {len(forms)} frames", cure=_ONE_OF)
    return _READERS[forms[0]](value[forms[0]], forms[0])


def read_csv(body: bytes, form: Form) -> list[dict[str, Any]]:
    """The rows of a CSV body with a line of names; an empty cell is missing. Raises Refused."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        what = (
            "the body is not CSV in UTF-8" if isinstance(error, UnicodeDecodeError) else f"the body is not CSV: {error}"
        )
        raise Refused("invalid_csv", what) from None
    if not lines:
        raise Refused("empty_batch", "the body has no line of names")
    return [
        {name: typed(name, text, form) for name, text in row.items()}
        for row in _zip(lines[0], [line for line in lines[1:] if line], "line")
    ]


def _read_split(value: Any, field: str) -> list[Any]:
    if not isinstance(value, dict):
        raise Refused("wrong_type", f"`{field}` is {word(value)}, not an object", field=field)
    columns, data = value.get("columns"), value.get("data")
    for name, part in (("columns", columns), ("data", data)):
        if not isinstance(part, list):
            code = "wrong_type" if name in value else "missing_field"
            raise Refused(
                code, f"`{field}.{name}` is not a list", field=f"{field}.{name}", cure="send columns and data"
            )
    assert isinstance(columns, list)
    assert isinstance(data, list)
    if not all(isinstance(name, str) for name in columns):
        raise Refused("wrong_type", f"`{field}.columns` holds more than names", field=f"{field}.columns")
    return _zip(columns, data, "row")


def _read_records(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise Refused(
            "wrong_type", f"`{field}` is {word(value)}, not a list", field=field, cure="send a list of objects"
        )
    if stranger := next((each for each in value if not isinstance(each, dict)), None):
        cure = "name the columns: send objects, or dataframe_split"
        raise Refused("wrong_type", f"`{field}` holds {word(stranger)}, not objects", field=field, cure=cure)
    return value


def _read_inputs(value: Any, field: str) -> list[Any]:
    """Columns by name, each a list of values or of lists of one value; or records."""
    if not isinstance(value, dict):
        return _read_records(value, field)
    columns: dict[str, list[Any]] = {}
    for name, cells in value.items():
        listed = cells if isinstance(cells, list) else [cells]
        columns[name] = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in listed]
    sizes = {len(cells) for cells in columns.values()}
    if len(sizes) > 1:
        what = "the columns have " + ", ".join(map(str, sorted(sizes)[:5])) + " rows"
        raise Refused("wrong_shape", what, field=field, cure="send as many values in each column")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


_READERS: dict[str, Callable[[Any, str], list[Any]]] = {
    "dataframe_split": _read_split,
    "dataframe_records": _read_records,
    "instances": _read_records,
    "inputs": _read_inputs,
}
_ONE_OF = "send one of " + ", ".join(_READERS)


def _zip(columns: Sequence[str], data: Sequence[Any], unit: str) -> list[Any]:
    if len(set(columns)) < len(columns):
        raise Refused("duplicate_key", "a column stands twice", cure="name each column once")
    for i, cells in enumerate(data):
        if not isinstance(cells, list) or len(cells) != len(columns):
            found = f"{len(cells)} values" if isinstance(cells, list) else word(cells)
            raise Refused(
                "wrong_shape",
                f"{unit} {i} has {found} for {len(columns)} columns",
                cure="send one value for each column",
            )
    return [dict(zip(columns, cells, strict=True)) for cells in data]


def _prediction(said: Said, loaded: Loaded) -> Any:
    if loaded.schema.task == "multiclass":
        return list(said.answer["probabilities"].values())
    return said.record["score"]
