"""One prediction for each task, in process: what is answered, what is journaled, and what is refused rather than guessed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.serving.house import JANUARY, House, make_house

from ecluse.adapters.journal_files import Journal
from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.core.contract import Category, Column, Number
from ecluse.core.instants import to_micros
from ecluse.core.model import ANSWERED
from ecluse.core.schema import Feature, Schema
from ecluse.serving.outcomes import read_outcomes
from ecluse.serving.predict import conclude, make_answer, prepare, run
from ecluse.serving.problems import Refused
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import make_form
from ecluse.training.compile.graph import Graph

PLAN = Feature("plan", "category", ("Basic", "Gold"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


def loaded(
    task: Any, classes: tuple[str, ...] = (), threshold: float | None = None, *, bias: tuple[float, ...]
) -> Loaded:
    """A model over the request's ``x`` and ``plan`` that answers ``x`` plus a bias for each output."""
    graph = Graph(2)
    x = graph.node("Gather", "x", graph.constant(np.array([0])), axis=1, width=1)
    model = graph.finish(graph.node("Add", x, graph.constant(np.array([bias])), width=len(bias)))
    columns: dict[str, Column] = {"x": Number(nulls=0.5), "plan": Category()}
    schema = Schema("m", task, (Feature("x", "number"), PLAN), (), columns, ("plan", "x"), {}, "features", classes)
    return Loaded("m", 4, "d" * 64, "k", schema, make_form(schema), OnnxScorer(model), threshold, blocking=False)


def answer(house: House, version: Loaded, body: dict[str, Any]) -> tuple[Any, Any]:
    with Journal.open(house.home / "journal", "w1", durability="process") as journal:
        case = asyncio.run(prepare(version, body, "r1", house.online, to_micros(JANUARY), 0.0))
        (record,) = conclude([case], run([case]), journal)
    if isinstance(record, Refused):
        raise record
    return json.loads(msgspec.json.encode(make_answer(case, record))), house.records()[-1]


def test_no_key_column_can_stand_where_the_answer_says_something_else(house: House) -> None:
    """A model with such a column is refused when it is declared: see ``core.model.ANSWERED``."""
    binary, _ = answer(house, loaded("binary", threshold=0.4, bias=(0.0,)), {"x": 0.4, "plan": "Gold"})
    regression, _ = answer(house, loaded("regression", bias=(0.0,)), {"x": 0.4, "plan": "Gold"})
    classes, _ = answer(house, loaded("multiclass", ("a", "b"), bias=(0.0, 1.0)), {"x": 0.4, "plan": "Gold"})
    assert binary.keys() | regression.keys() | classes.keys() == ANSWERED


def test_binary(house: House) -> None:
    said, kept = answer(house, loaded("binary", threshold=0.4, bias=(0.0,)), {"x": 0.4, "plan": "Gold"})
    assert (said["proba"], said["decision"], said["threshold"]) == (0.4, True, 0.4)
    assert (kept["score"], kept["decision"], kept["scores"], kept["entity"]) == (0.4, True, None, None)
    assert kept["inputs"] == {"plan": "Gold", "x": 0.4}
    said, _ = answer(
        house, loaded("binary", bias=(0.0,)), {"features": {"x": 0.4, "plan": "Gold"}, "as_of": "2024-01-01"}
    )
    assert (said["decision"], said["as_of"]) == (None, "2024-01-01T00:00:00.000000Z")


def test_multiclass(house: House) -> None:
    said, kept = answer(house, loaded("multiclass", ("a", "b", "c"), bias=(0.0, 0.5, 0.25)), {"x": 0.0, "plan": "Gold"})
    assert said["probabilities"] == {"a": 0.0, "b": 0.5, "c": 0.25}
    assert (said["decision"], "proba" in said) == ("b", False)
    assert (kept["score"], kept["scores"]["c"], kept["decision"]) == (0.5, 0.25, "b")


def test_regression(house: House) -> None:
    said, kept = answer(house, loaded("regression", bias=(10.0,)), {"x": 2, "plan": "New"})
    assert (said["value"], said["decision"], said["unseen"]) == (12.0, None, ["plan"])
    assert (kept["score"], kept["unseen"]) == (12.0, ["plan"])


def test_no_number_is_no_answer(house: House) -> None:
    version = loaded("regression", bias=(0.0,))
    for body, code in (({"x": None, "plan": "Gold"}, "not_finite"), ({"x": None, "plan": "New"}, "unknown_category")):
        with pytest.raises(Refused) as caught:
            answer(house, version, body)
        assert caught.value.code == code
    assert not house.records()


def test_a_closed_journal_means_no_prediction(house: House) -> None:
    journal = Journal.open(house.home / "journal", "w1", durability="power")
    journal.close()
    version = loaded("regression", bias=(0.0,))
    case = asyncio.run(prepare(version, {"x": 1, "plan": "Gold"}, "r1", house.online, to_micros(JANUARY), 0.0))
    (refused,) = conclude([case], run([case]), journal)
    assert isinstance(refused, Refused)
    assert refused.code == "log_unavailable"


@pytest.mark.parametrize("value", [10**400, -(10**400), True, "1", None, float("inf")], ids=range(6))
def test_an_outcome_of_a_regression_is_a_number_a_float_can_hold(value: object) -> None:
    champions = {"m": loaded("regression", bias=(0.0,))}
    body = json.dumps([{"request_id": "a", "value": 2**60}, {"request_id": "b", "value": value}]).encode()
    with pytest.raises(Refused) as caught:
        read_outcomes(body, champions, None, to_micros(JANUARY))
    assert caught.value.kind.status in (400, 422)
