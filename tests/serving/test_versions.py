"""Asking for another version than the champion, wishing for one to be loaded, and what a worker says of itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.house import House, bundle, ready_house
from tests.serving.inside import Answer, ask, plane_of

from ecluse.adapters.wishes_files import WishFiles
from ecluse.core.access import KeyGrant, hash_key
from ecluse.core.wish import Wish
from ecluse.serving.http import Application
from ecluse.serving.plane import Plane

GOOD = {"user_id": "u9", "gift": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Version 1 serves, 2 (which answers otherwise) is warm; one key may ask for versions, one may not."""
    house = ready_house(tmp_path_factory.mktemp("versions"))
    house.add(2, bundle(-1.0))
    house.keys = (
        KeyGrant("any", hash_key("any"), ("predict", "versions", "read", "control")),
        KeyGrant("plain", hash_key("plain"), ("predict",)),
    )
    house.publish(1)
    return house


@pytest.fixture
def plane(house: House) -> Iterator[Plane]:
    with plane_of(house) as plane:
        yield plane


def predict(plane: Plane, number: object, key: str = "any", path: str = "/predict") -> tuple[Answer, Any]:
    answer = asyncio.run(ask(Application(plane), "POST", path, {**GOOD, "model_version": number}, key=key))
    return answer, json.loads(answer.body)


def test_a_caller_may_ask_for_a_warm_version(house: House, plane: Plane) -> None:
    champion, asked = predict(plane, None)[1], predict(plane, 2)
    assert (champion["version"], asked[1]["version"], asked[0].headers["x-ecluse-version"]) == (1, 2, "2")
    assert champion["proba"] != asked[1]["proba"]
    assert predict(plane, 2.0)[1]["version"] == 2, "a whole number, to JSON"
    kept = house.records()[-3:-1]
    assert [(record["version"], record["arm"]) for record in kept] == [(1, "champion"), (2, "asked")]


def test_the_scope_is_for_other_versions_than_the_champion(plane: Plane) -> None:
    assert predict(plane, 1, "plain")[0].status == 200
    answer, problem = predict(plane, 2, "plain")
    assert (answer.status, problem["code"]) == (403, "forbidden")
    inputs = {"inputs": [{"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u1"]}]}
    path = "/v2/models/churn/versions/2/infer"
    found = asyncio.run(ask(Application(plane), "POST", path, inputs, key="plain"))
    assert found.code == "forbidden"


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (3, 404, "unknown_version"),
        (-1, 404, "unknown_version"),
        ("2", 422, "wrong_type"),
        (True, 422, "wrong_type"),
        (2.5, 422, "wrong_type"),
    ],
)
def test_a_version_that_is_not_warm(plane: Plane, number: object, status: int, code: str) -> None:
    answer, problem = predict(plane, number)
    assert (answer.status, problem["code"]) == (status, code)


def test_a_wish_is_recorded_for_the_control_plane(house: House, plane: Plane) -> None:
    async def load(path: str) -> Answer:
        return await ask(Application(plane), "POST", path, key="any")

    answer = asyncio.run(load("/models/churn/load/3"))
    assert (answer.status, json.loads(answer.body)["warm"]) == (202, False)
    assert json.loads(asyncio.run(load("/models/churn/load/2")).body)["warm"]
    assert WishFiles(house.home / "wishes").pending() == (Wish("churn", 2, "any"),)
    assert asyncio.run(load("/models/other/load/2")).code == "unknown_model"
    for number in ("x", "-1", "9999999999", "²"):
        assert asyncio.run(load(f"/models/churn/load/{number}")).code == "unknown_version"


def test_a_wish_that_cannot_be_kept_is_not_accepted(tmp_path: Path) -> None:
    house = ready_house(tmp_path)
    (house.home / "wishes").write_text("a file, no folder")
    with plane_of(house) as plane:
        answer = asyncio.run(ask(Application(plane), "POST", "/models/churn/load/1"))
    assert (answer.status, answer.code) == (503, "wish_unavailable")


def test_a_worker_says_what_it_holds(plane: Plane) -> None:
    found = json.loads(asyncio.run(ask(Application(plane), "GET", "/models/info", key="any")).body)
    assert (found["worker"], found["pid"], found["models"]["churn"]["warm"]) == ("inside", os.getpid(), [1, 2])
