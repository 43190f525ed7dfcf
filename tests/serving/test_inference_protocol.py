"""The Open Inference Protocol: requests as its specification and its clients write them, answers as they read them."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.house import House, Worker, ready_house, running
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from ecluse.serving.problems import Refused
from ecluse.serving.tensors import DATATYPES, Tensor, read_rows

INFER = "/v2/models/churn/infer"
BY_KEY: list[Any] = [
    {"name": "user_id", "shape": [2], "datatype": "BYTES", "data": ["u1", "u2"]},
    {"name": "gift", "shape": [2], "datatype": "BOOL", "data": [True, False]},
]
EXPLICIT: list[Any] = [
    {"name": "hours", "shape": [2, 1], "datatype": "FP64", "data": [[3.5], [700]]},
    {"name": "plan", "shape": [2, 1], "datatype": "BYTES", "data": ["Gold", "New"]},
    {"name": "fee", "shape": [2], "datatype": "FP32", "data": [1.5, None]},
    {"name": "since", "shape": [2], "datatype": "BYTES", "data": ["2024-01-01", "2023-01-01T12:00:00Z"]},
    {"name": "gift", "shape": [2], "datatype": "BOOL", "data": [True, False]},
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house, max_batch=16) as worker:
        yield worker


def infer(worker: Worker, body: Any, path: str = INFER) -> tuple[int, dict[str, str], Any]:
    return worker.call("POST", path, body)


def outputs(answer: Any) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in answer["outputs"]}


def test_health_and_metadata(worker: Worker) -> None:
    assert worker.call("GET", "/v2/health/live")[2]["live"] is True
    assert worker.call("GET", "/v2/health/ready")[0] == 200
    server = worker.call("GET", "/v2")[2]
    assert (server["name"], server["extensions"]) == ("ecluse", ["binary_tensor_data"])
    for path in ("/v2/models/churn", "/v2/models/churn/versions/1"):
        status, headers, model = worker.call("GET", path)
        assert (status, headers["x-ecluse-version"], model["name"], model["versions"]) == (200, "1", "churn", ["1"])
        assert worker.call("GET", path + "/ready")[2] == {"name": "churn", "ready": True}
    assert {each["name"]: each["datatype"] for each in model["inputs"]} == {
        "hours": "FP64", "fee": "FP64", "plan": "BYTES", "since": "BYTES", "gift": "BOOL"
    }  # fmt: skip
    assert [(each["name"], each["datatype"]) for each in model["entity_inputs"]] == [
        ("user_id", "BYTES"),
        ("gift", "BOOL"),
    ]
    assert {each["name"]: (each["datatype"], each["shape"]) for each in model["outputs"]}["proba"] == ("FP64", [-1])


@pytest.mark.parametrize(("path", "status", "code"), [
    ("/v2/models/nope", 404, "unknown_model"),
    ("/v2/models/nope/ready", 404, "unknown_model"),
    ("/v2/models/churn/versions/9", 404, "unknown_version"),
    ("/v2/models/churn/versions/9/ready", 404, "unknown_version"),
    ("/v2/elsewhere", 404, "not_found"),
])  # fmt: skip
def test_errors_have_the_member_its_clients_read(worker: Worker, path: str, status: int, code: str) -> None:
    found, _, answer = worker.call("GET", path)
    assert (found, answer["code"]) == (status, code)
    assert answer["error"] == f"{answer['detail']}; {answer['cure']}"


@pytest.mark.parametrize("path", [INFER, "/v2/models/churn/versions/1/infer"])
def test_rows_by_key_are_answered_as_predict_does(worker: Worker, house: House, path: str) -> None:
    status, headers, answer = infer(worker, {"id": "42", "inputs": BY_KEY}, path)
    assert status == 200
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "churn", "1")
    assert (headers["x-request-id"], headers["x-ecluse-model"]) == ("42", "churn")
    alone = [worker.predict("u1", gift=True)[1], worker.predict("u2", gift=False)[1]]
    found = outputs(answer)
    assert found["proba"] == [each["proba"] for each in alone]
    assert found["decision"] == [each["decision"] for each in alone]
    assert found["request_id"] == ["42.0", "42.1"]
    kept = {record["id"]: record for record in house.records()}
    assert [kept[name]["request_id"] for name in found["prediction_id"]] == ["42.0", "42.1"]


def test_explicit_features_of_a_moment(worker: Worker) -> None:
    status, _, answer = infer(worker, {"inputs": EXPLICIT, "parameters": {"as_of": "2024-01-31", "priority": 1}})
    features = {"hours": 3.5, "plan": "Gold", "fee": 1.5, "since": "2024-01-01"}
    alone = worker.call("POST", "/predict", {"features": features, "gift": True, "as_of": "2024-01-31"})[2]
    assert status == 200
    assert outputs(answer)["proba"][0] == alone["proba"]
    assert outputs(answer)["unseen"] == ["", "plan"]


def test_only_the_outputs_asked_for(worker: Worker) -> None:
    answer = infer(worker, {"inputs": BY_KEY, "outputs": [{"name": "decision"}, {"name": "proba", "parameters": {}}]})[
        2
    ]
    assert [each["name"] for each in answer["outputs"]] == ["decision", "proba"]
    status, _, problem = infer(worker, {"inputs": BY_KEY, "outputs": [{"name": "output0"}]})
    assert (status, problem["code"], problem["field"]) == (422, "unknown_field", "outputs[0]")


def changed(i: int, **parts: Any) -> list[Any]:
    return [{**each, **parts} if j == i else each for j, each in enumerate(BY_KEY)]


def without(i: int, part: str) -> list[Any]:
    return [{k: v for k, v in each.items() if j != i or k != part} for j, each in enumerate(BY_KEY)]


SPECIFICATION = {  # the example request of the specification, whose model has two other inputs
    "id": "42",
    "inputs": [
        {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
        {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True]},
    ],
    "outputs": [{"name": "output0"}],
}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (SPECIFICATION, "unknown_field", "outputs[0]"),
        ({**SPECIFICATION, "outputs": []}, "wrong_shape", "inputs[0].shape"),
        ({}, "missing_field", "inputs"),
        ({"inputs": []}, "missing_field", "inputs"),
        ({"inputs": [7]}, "wrong_type", "inputs[0]"),
        ({"inputs": BY_KEY, "colour": 1}, "unknown_field", "colour"),
        ({"inputs": BY_KEY, "parameters": 1}, "wrong_type", "parameters"),
        ({"inputs": BY_KEY, "outputs": 1}, "wrong_type", "outputs"),
        ({"inputs": BY_KEY, "id": 42}, "invalid_request_id", "id"),
        ({"inputs": BY_KEY[:1]}, "missing_field", "gift"),
        ({"inputs": [*BY_KEY, BY_KEY[0]]}, "duplicate_key", "user_id"),
        ({"inputs": [*BY_KEY, *EXPLICIT[:1]]}, "wrong_shape", None),
        ({"inputs": [*BY_KEY, *EXPLICIT[1:4], EXPLICIT[0]]}, "ambiguous_request", "features"),
        ({"inputs": [*BY_KEY, {**BY_KEY[0], "name": "colour"}]}, "unknown_field", "colour"),
        ({"inputs": changed(0, shape=[3])}, "wrong_shape", "user_id"),
        ({"inputs": changed(1, shape=[3], data=[True] * 3)}, "wrong_shape", "gift"),
        ({"inputs": changed(0, shape=[-2])}, "wrong_shape", "inputs[0].shape"),
        ({"inputs": changed(0, shape=[])}, "wrong_shape", "inputs[0].shape"),
        ({"inputs": changed(0, datatype="FP128")}, "wrong_type", "inputs[0].datatype"),
        ({"inputs": changed(0, data=[1, 2])}, "wrong_type", "user_id"),
        ({"inputs": changed(1, data=[1, 0])}, "wrong_type", "gift"),
        ({"inputs": changed(1, datatype="INT64", data=[1, 0])}, "wrong_type", "gift"),
        ({"inputs": changed(0, data="u1")}, "wrong_type", "user_id"),
        ({"inputs": without(0, "data")}, "missing_field", "user_id"),
        ({"inputs": without(0, "name")}, "missing_field", "inputs[0].name"),
        ({"inputs": changed(0, parameters={"binary_data_size": 4})}, "ambiguous_request", "user_id"),
        ({"inputs": [{**each, "shape": [0], "data": []} for each in BY_KEY]}, "empty_batch", None),
        ({"inputs": changed(0, data=["u1", "nobody"])}, "unknown_entity", "user_id"),
    ],
)
def test_requests_that_cannot_be_answered(
    worker: Worker, house: House, body: Any, code: str, field: str | None
) -> None:
    before = len(house.records())
    if code == "wrong_shape" and field is None:  # explicit features have other rows than the keys
        body = {"inputs": [*BY_KEY, {"name": "hours", "shape": [1], "datatype": "FP64", "data": [1.0]}]}
        field = "hours"
    status, _, answer = infer(worker, body)
    assert (answer["code"], answer.get("field")) == (code, field)
    assert status in (400, 404, 422)
    assert answer["error"]
    assert len(house.records()) == before, "answered whole or not at all"


def test_more_rows_than_allowed(worker: Worker) -> None:
    tensor = {"name": "user_id", "shape": [10**12], "datatype": "BYTES", "data": []}
    assert infer(worker, {"inputs": [tensor]})[0] == 413


# -- bytes behind the JSON ----------------------------------------------------------------------------------------------


def raw(worker: Worker, head: bytes, tail: bytes, length: int | None = None) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(worker.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    sent = {"Inference-Header-Content-Length": str(len(head) if length is None else length)}
    connection.request("POST", INFER, head + tail, sent)
    with connection.getresponse() as response:
        body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


# what tritonclient 2.73 sends for two rows by key, byte for byte
TRITON_HEAD = (
    b'{"id":"abc1","inputs":[{"name":"user_id","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":12}},'
    b'{"name":"gift","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}],"parameters":{"binary_data_output":true}}'
)
TRITON_TAIL = b"\x02\x00\x00\x00u1\x02\x00\x00\x00u2\x01\x00"


def test_tritonclient_s_bytes(worker: Worker) -> None:
    status, headers, body = raw(worker, TRITON_HEAD, TRITON_TAIL)
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    length = int(headers["inference-header-content-length"])
    answer, tail = json.loads(body[:length]), body[length:]
    sizes = [each["parameters"]["binary_data_size"] for each in answer["outputs"]]
    assert (sum(sizes), answer["outputs"][0]["name"]) == (len(tail), "proba")
    alone = [worker.predict("u1", gift=True)[1]["proba"], worker.predict("u2", gift=False)[1]["proba"]]
    assert list(struct.unpack("<2d", tail[:16])) == alone


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_itself(worker: Worker, binary: bool) -> None:
    with triton.InferenceServerClient(urlsplit(worker.url).netloc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("churn", "1")
        assert client.get_server_metadata()["name"] == "ecluse"
        assert client.get_model_metadata("churn")["versions"] == ["1"]
        user, gift = triton.InferInput("user_id", [2], "BYTES"), triton.InferInput("gift", [2], "BOOL")
        user.set_data_from_numpy(np.array(["u1", "u2"], dtype=object), binary_data=binary)
        gift.set_data_from_numpy(np.array([True, False]), binary_data=binary)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("proba", "request_id")]
        found = client.infer("churn", [user, gift], model_version="1", request_id="from-triton", outputs=wanted)
    alone = [worker.predict("u1", gift=True)[1]["proba"], worker.predict("u2", gift=False)[1]["proba"]]
    assert found.as_numpy("proba").tolist() == alone
    assert found.get_response()["id"] == "from-triton"
    assert [each["name"] for each in found.get_response()["outputs"]] == ["proba", "request_id"]


def test_tritonclient_reads_a_refusal(worker: Worker) -> None:
    with triton.InferenceServerClient(urlsplit(worker.url).netloc) as client:
        user = triton.InferInput("user_id", [1], "BYTES")
        user.set_data_from_numpy(np.array(["u1"], dtype=object))
        with pytest.raises(InferenceServerException, match="`gift` is missing") as caught:
            client.infer("churn", [user])
        assert caught.value.status() == "422"
        assert not client.is_model_ready("churn", "7")


@pytest.mark.parametrize(
    ("head", "tail", "length"),
    [
        (TRITON_HEAD, TRITON_TAIL[:-1], None),
        (TRITON_HEAD, TRITON_TAIL + b"\x00", None),
        (TRITON_HEAD, b"\xff" * 4 + TRITON_TAIL[4:], None),
        (TRITON_HEAD, TRITON_TAIL, 10_000),
        (TRITON_HEAD, TRITON_TAIL, 5),
        (TRITON_HEAD.replace(b":12", b":-1"), TRITON_TAIL, None),
        (TRITON_HEAD.replace(b":12", b":1e3"), TRITON_TAIL, None),
    ],
)
def test_bytes_that_do_not_add_up(worker: Worker, head: bytes, tail: bytes, length: int | None) -> None:
    status, headers, body = raw(worker, head, tail, length)
    assert (status in (400, 422), headers["content-type"]) == (True, "application/problem+json")
    assert json.loads(body)["code"] in ("wrong_shape", "wrong_type", "invalid_json")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back(datatype: str) -> None:
    data: list[Any] = ["", "é"] if datatype == "BYTES" else [True, False] if datatype == "BOOL" else [0, 3]
    tensor = Tensor("x", datatype, (2,), data)
    head = {"name": "x", "datatype": datatype, "shape": [2]}
    packed = tensor.packed()
    assert read_rows([{**head, "parameters": {"binary_data_size": len(packed)}}], packed, 9) == [
        {"x": each} for each in data
    ]
    assert read_rows([{**head, "data": data}], b"", 9) == [{"x": each} for each in data]


def test_nan_in_bytes_is_a_missing_value() -> None:
    packed = struct.pack("<2d", 1.0, float("nan"))
    head = {"name": "x", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}
    assert read_rows([head], packed, 9) == [{"x": 1.0}, {"x": None}]


def test_text_that_is_none() -> None:
    head = {"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
    with pytest.raises(Refused) as caught:
        read_rows([head], b"\x01\x00\x00\x00\xff", 9)
    assert caught.value.code == "wrong_type"


TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from("xy"),
        "shape": st.lists(st.integers(-1, 3), max_size=2),
        "datatype": st.sampled_from(DATATYPES),
    },
    optional={
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-1, 20) | st.text(max_size=2)}
        ),
        "data": st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), max_size=3),
    },
)


@given(inputs=st.lists(TENSORS, max_size=2), tail=st.binary(max_size=24))
def test_whatever_the_bytes_are_there_are_rows_or_a_refusal(inputs: list[Any], tail: bytes) -> None:
    try:
        rows = read_rows(inputs, tail, 2)
    except Refused:
        return
    assert len(rows) <= 2
    assert all(set(row) == {each["name"] for each in inputs} for row in rows)
