"""MLflow's scoring protocol: a frame in each of its forms gets the same predictions, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.house import SCHEMA, House, Worker, ready_house, running

from ecluse.serving.invocations import read_csv, read_frame
from ecluse.serving.problems import Refused
from ecluse.serving.validate import make_form

COLUMNS = ["hours", "plan", "fee", "since", "gift"]
DATA: list[Any] = [[3.5, "Gold", 1.5, "2024-01-01", True], [700, "Basic", None, "2023-01-01", False]]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in DATA]
COLUMNAR = {name: [row[i] for row in DATA] for i, name in enumerate(COLUMNS)}
CSV = "hours,plan,fee,since,gift\n3.5,Gold,1.5,2024-01-01,true\n700,Basic,,2023-01-01,False\n"
FORMS: list[Any] = [
    {"dataframe_split": {"columns": COLUMNS, "data": DATA}},
    {"dataframe_split": {"index": [0, 1], "columns": COLUMNS, "data": DATA}, "params": None},
    {"dataframe_records": RECORDS},
    {"instances": RECORDS},
    {"inputs": RECORDS},
    {"inputs": COLUMNAR, "params": {}},
    {"inputs": {name: [[each] for each in cells] for name, cells in COLUMNAR.items()}},
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house, max_batch=16) as worker:
        yield worker


@pytest.fixture(scope="module")
def expected(worker: Worker) -> list[float]:
    answers = [
        worker.call(
            "POST", "/predict", {"features": {k: v for k, v in row.items() if k != "gift"}, "gift": row["gift"]}
        )[2]
        for row in RECORDS
    ]
    return [answer["proba"] for answer in answers]


def csv(worker: Worker, text: str) -> tuple[int, dict[str, str], Any]:
    return worker.call("POST", "/invocations", headers={"Content-Type": "text/csv; charset=utf-8"}, raw=text.encode())


@pytest.mark.parametrize("path", ["/invocations", "/models/churn/invocations"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_frame(worker: Worker, expected: list[float], form: Any, path: str) -> None:
    status, headers, answer = worker.call("POST", path, form)
    assert (status, answer) == (200, {"predictions": expected})
    assert (headers["x-ecluse-model"], headers["x-ecluse-version"]) == ("churn", "1")


@pytest.mark.parametrize("text", [CSV, "\ufeff" + CSV.replace("\n", "\r\n"), CSV.replace("Gold", '"Gold"') + "\n"])
def test_csv(worker: Worker, expected: list[float], text: str) -> None:
    assert csv(worker, text)[::2] == (200, {"predictions": expected})


def test_rows_by_key_and_what_is_worth_telling(worker: Worker, house: House) -> None:
    status, headers, answer = worker.call(
        "POST",
        "/invocations",
        {"dataframe_split": {"columns": ["user_id", "gift"], "data": [["u1", True], ["u2", False]]}},
        {"X-Request-Id": "frame"},
    )
    assert (status, headers.get("x-ecluse-unseen")) == (200, None)
    assert answer["predictions"] == [
        worker.predict("u1", gift=True)[1]["proba"],
        worker.predict("u2", gift=False)[1]["proba"],
    ]
    assert {"frame.0", "frame.1"} <= {record["request_id"] for record in house.records()}
    assert worker.call("POST", "/invocations", {"inputs": [RECORDS[0] | {"plan": "New"}]})[1]["x-ecluse-unseen"] == "1"


def test_ping(worker: Worker) -> None:
    assert worker.call("GET", "/ping")[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "missing_field", None),
        ({"inputs": RECORDS, "instances": RECORDS}, 422, "ambiguous_request", None),
        ({"inputs": RECORDS, "params": {"temperature": 1}}, 422, "unknown_field", "params"),
        ({"inputs": RECORDS, "params": False}, 422, "unknown_field", "params"),
        ({"messages": []}, 422, "unknown_field", "messages"),
        ({"inputs": []}, 422, "empty_batch", None),
        ({"inputs": {}}, 422, "empty_batch", None),
        ({"inputs": RECORDS * 9}, 413, "batch_too_large", None),
        ({"inputs": [[1, 2], [3, 4]]}, 422, "wrong_type", "inputs"),
        ({"inputs": 7}, 422, "wrong_type", "inputs"),
        ({"inputs": {"hours": [1, 2], "gift": [True]}}, 422, "wrong_shape", "inputs"),
        ({"dataframe_records": RECORDS[0]}, 422, "wrong_type", "dataframe_records"),
        ({"dataframe_split": DATA}, 422, "wrong_type", "dataframe_split"),
        ({"dataframe_split": {"data": DATA}}, 422, "missing_field", "dataframe_split.columns"),
        ({"dataframe_split": {"columns": "x", "data": DATA}}, 422, "wrong_type", "dataframe_split.columns"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, 422, "wrong_type", "dataframe_split.columns"),
        ({"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}, 400, "duplicate_key", None),
        ({"dataframe_split": {"columns": ["x", "y"], "data": [[1]]}}, 422, "wrong_shape", None),
        ({"dataframe_split": {"columns": ["x", "y"], "data": [1]}}, 422, "wrong_shape", None),
        ({"inputs": [RECORDS[0], RECORDS[1] | {"hours": -1}]}, 422, "out_of_range", "hours"),
        ({"inputs": [RECORDS[0], RECORDS[1] | {"age_days": 1}]}, 422, "unknown_field", "age_days"),
        ({"inputs": [RECORDS[0] | {"user_id": "u1"}]}, 422, "ambiguous_request", "features"),
    ],
)
def test_frames_that_cannot_be_answered(
    worker: Worker, house: House, body: Any, status: int, code: str, field: str | None
) -> None:
    before = len(house.records())
    found, headers, answer = worker.call("POST", "/invocations", body)
    assert (found, answer["code"], answer.get("field")) == (status, code, field)
    assert headers["content-type"] == "application/problem+json"
    assert len(house.records()) == before, "answered whole or not at all"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_batch"),
        ("hours,gift\n", "empty_batch"),
        ("hours,hours\n1,2\n", "duplicate_key"),
        ("hours,gift\n1\n", "wrong_shape"),
        ('hours,gift\n"1,true\n', "invalid_csv"),
        (CSV.replace("3.5", "nan"), "out_of_range"),
        (CSV.replace("3.5", "1e999"), "out_of_range"),
        (CSV.replace("3.5", "1_0"), "wrong_type"),
        (CSV.replace("3.5", ""), "missing_value"),
        (CSV.replace("true", "1"), "wrong_type"),
    ],
)
def test_csv_that_cannot_be_answered(worker: Worker, text: str, code: str) -> None:
    assert csv(worker, text)[2]["code"] == code


def test_csv_that_is_no_text(worker: Worker) -> None:
    found = worker.call("POST", "/invocations", headers={"Content-Type": "text/csv"}, raw=b"hours\n\xff\n")
    assert (found[0], found[2]["code"]) == (400, "invalid_csv")


def test_mlflow_writes_what_is_read_here(worker: Worker, expected: list[float]) -> None:
    client = pytest.importorskip("mlflow.pyfunc.scoring_server.client")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DATA, columns=COLUMNS)
    frame["fee"] = frame["fee"].astype(object).where(frame["fee"].notna(), None)
    parts = urlsplit(worker.url)
    server = client.ScoringServerClient(parts.hostname, parts.port)
    server.ping()
    assert json.loads(server.invoke(frame).to_json())["predictions"] == expected


def test_a_single_value_is_a_column_of_one_row() -> None:
    assert read_frame({"inputs": {"x": 1, "plan": "Gold"}}) == [{"x": 1, "plan": "Gold"}]


@given(body=st.binary(max_size=60) | st.text(alphabet="hours,gift\n\r\"' 1.e-_tru\x00é", max_size=60).map(str.encode))
def test_whatever_the_csv_is_there_are_rows_or_a_refusal(body: bytes) -> None:
    try:
        rows = read_csv(body, make_form(SCHEMA))
    except Refused:
        return
    assert all(isinstance(row, dict) for row in rows)
