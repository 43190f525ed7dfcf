"""Many rows at once: answered as one by one, refused in their place, scored and journaled together, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.house import House, Worker, ready_house, running

ROWS: list[Any] = [{"user_id": f"u{i}", "gift": i % 2 == 0} for i in range(8)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return ready_house(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def worker(house: House) -> Iterator[Worker]:
    with running(house, max_batch=64, max_body_bytes=200_000, deadline_ms=10_000) as worker:
        yield worker


def post(worker: Worker, body: Any, path: str = "/predict/batch", **headers: str) -> tuple[int, dict[str, str], Any]:
    return worker.call("POST", path, body, headers)


@pytest.mark.parametrize("path", ["/predict/batch", "/models/churn/predict/batch"])
def test_every_row_is_answered_as_it_would_be_alone(worker: Worker, path: str) -> None:
    status, headers, answer = post(worker, {"instances": ROWS, "request_id": f"b{len(path)}"}, path)
    assert (status, answer["answered"], answer["refused"]) == (200, 8, 0)
    assert (answer["model"], answer["version"], headers["x-ecluse-version"]) == ("churn", 1, "1")
    for i, (row, found) in enumerate(zip(ROWS, answer["results"], strict=True)):
        alone = worker.call("POST", "/predict", row)[2]
        same = (
            "user_id",
            "proba",
            "decision",
            "threshold",
            "as_of",
            "moments",
            "unseen",
            "degraded",
            "model",
            "version",
        )
        assert {name: found[name] for name in same} == {name: alone[name] for name in same}
        assert (found["status"], found["request_id"]) == (200, f"b{len(path)}.{i}")
    assert len({each["prediction_id"] for each in answer["results"]}) == 8


def test_more_rows_than_one_turn_stay_in_order(worker: Worker) -> None:
    rows = [
        {"features": {"hours": i, "plan": "Gold", "fee": 1, "since": "2024-01-01"}, "gift": False} for i in range(64)
    ]
    status, _, answer = post(worker, {"instances": rows})
    scores = [each["proba"] for each in answer["results"]]
    assert status == 200
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_a_row_that_is_refused_is_told_in_its_place(worker: Worker, house: House) -> None:
    before = len(house.records())
    rows = [
        ROWS[0],
        {"user_id": "nobody", "gift": True},
        7,
        {"user_id": "u3", "gift": "yes"},
        ROWS[4] | {"request_id": "own"},
        ROWS[5] | {"request_id": "own"},
    ]
    status, _, answer = post(worker, {"instances": rows, "request_id": "mixed"})
    assert (status, answer["answered"], answer["refused"]) == (207, 2, 4)
    assert [each.get("code") for each in answer["results"]] == [
        None,
        "unknown_entity",
        "wrong_type",
        "wrong_type",
        None,
        "invalid_request_id",
    ]
    assert [each["status"] for each in answer["results"]] == [200, 404, 422, 422, 200, 422]
    assert [each["request_id"] for each in answer["results"]] == [
        "mixed.0",
        "mixed.1",
        "mixed.2",
        "mixed.3",
        "own",
        "own",
    ]
    kept = house.records()[before:]
    assert [record["request_id"] for record in kept] == ["mixed.0", "own"]
    assert [record["id"] for record in kept] == [
        each["prediction_id"] for each in answer["results"] if each["status"] == 200
    ]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"instances": []}, 422, "empty_batch", None),
        ({"instances": ROWS * 9}, 413, "batch_too_large", None),
        ({"instances": ROWS[0]}, 422, "wrong_type", "instances"),
        ({}, 422, "missing_field", "instances"),
        ({"instances": ROWS, "model": "churn"}, 422, "unknown_field", "model"),
        ({"instances": ROWS, "request_id": "x" * 121}, 422, "invalid_request_id", None),
        ({"instances": ROWS, "request_id": "no spaces"}, 422, "invalid_request_id", "request_id"),
        (ROWS, 422, "wrong_type", None),
    ],
)
def test_what_is_no_batch(worker: Worker, house: House, body: Any, status: int, code: str, field: str | None) -> None:
    before = len(house.records())
    found, headers, answer = post(worker, body)
    assert (found, answer["code"], answer.get("field")) == (status, code, field)
    assert headers["content-type"] == "application/problem+json"
    assert len(house.records()) == before


def test_header_and_body_must_agree_on_the_id(worker: Worker) -> None:
    assert post(worker, {"instances": ROWS[:1]}, **{"X-Request-Id": "h1"})[2]["results"][0]["request_id"] == "h1.0"
    status, _, answer = post(worker, {"instances": ROWS[:1], "request_id": "h2"}, **{"X-Request-Id": "h1"})
    assert (status, answer["code"]) == (422, "invalid_request_id")


def test_predictions_of_a_batch_are_counted(worker: Worker) -> None:
    def counted() -> float:
        text = worker.call("GET", "/metrics")[2]
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("ecluse_journal_records_total{") and "prediction" in line
        )

    before = counted()
    assert post(worker, {"instances": ROWS})[0] == 200
    assert counted() == before + 8


def test_an_expired_batch_answers_nothing(tmp_path: Path) -> None:
    house = ready_house(tmp_path)
    with running(house, max_batch=5_000, max_body_bytes=10_000_000, deadline_ms=20) as worker:
        status, _, answer = post(worker, {"instances": ROWS * 600})
        assert (status, answer["code"]) in ((503, "deadline_exceeded"), (408, "body_timeout"))
    assert not house.records()
