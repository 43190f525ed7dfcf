"""Every way a caller of the champion could be refused by the candidate is found, and named."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.gates.planted import FAILED, INCONCLUSIVE, PASSED, USER, evidence, only, schema_of

from ecluse.core.contract import Boolean, Category, Column, Integer, Number, Text
from ecluse.core.entity import Entity
from ecluse.core.schema import Schema, StoredView
from ecluse.gates.compatibility import check_compatibility, differences, narrower
from ecluse.gates.evidence import Champion


def broken(old: Schema, new: Schema) -> set[str]:
    return {subject for subject, _ in differences(old, new)}


def both(**columns: Column) -> Schema:
    return schema_of(accepts="both", columns=columns)


def test_alike_passes_and_no_champion_passes() -> None:
    made = evidence()
    assert only(check_compatibility, made).outcome is PASSED
    assert only(check_compatibility, replace(made, champion=Champion(3, made.schema))).outcome is PASSED


def test_an_unreadable_champion_is_inconclusive() -> None:
    finding = only(check_compatibility, evidence(champion=Champion(3, problem="bundle ab12 is gone")))
    assert finding.outcome is INCONCLUSIVE
    assert "ab12" in finding.why


def test_each_break_is_a_finding_of_its_own() -> None:
    old = schema_of(accepts="both", request=("amount",), columns={"amount": Number(min=0)})
    new = schema_of(accepts="both", request=("amount",), columns={"amount": Number(min=1, max=5)})
    found = check_compatibility(evidence(schema=new, champion=Champion(3, old)), gates=None)  # type: ignore[arg-type]
    assert [(f.outcome, f.subject) for f in found] == [(FAILED, "amount"), (FAILED, "amount")]


def test_stored_features_of_a_model_asked_by_key_may_change() -> None:
    assert not broken(schema_of(), schema_of(columns={"other": Number()}, features=()))


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        ("entity", "both", False),
        ("features", "both", False),
        ("entity", "features", True),
        ("features", "entity", True),
        ("both", "entity", True),
        ("both", "features", True),
    ],
)
def test_the_mode_of_asking(old: Any, new: Any, breaks: bool) -> None:
    assert ("accepts" in broken(schema_of(accepts=old), schema_of(accepts=new))) is breaks


def test_request_fields_may_neither_come_nor_go() -> None:
    one = schema_of(request=("amount",), columns={"amount": Number(nulls=1.0)})
    assert broken(schema_of(columns={}), one) == {"amount"}
    assert broken(one, schema_of(columns={})) == {"amount"}


def test_explicit_features_may_neither_come_nor_go() -> None:
    assert broken(both(age=Number()), both(age=Number(), city=Category())) == {"city"}
    assert broken(both(age=Number(), city=Category()), both(age=Number())) == {"city"}


def test_keys_must_be_written_the_same() -> None:
    view = schema_of().views[0]
    for entity in (Entity("user_id", kind="integer"), Entity("account"), Entity("user_id", columns=("a", "b"))):
        assert broken(schema_of(), schema_of(views=(replace(view, entity=entity),))) == {"entity"}


def test_views_must_not_refuse_what_they_answered() -> None:
    def one(ttl: int | None, missing: Any) -> Schema:
        days = None if ttl is None else timedelta(days=ttl)
        return schema_of(views=(StoredView("profile", USER, {"age": "number"}, days, missing),))

    assert broken(one(30, "accept"), one(30, "refuse")) == {"profile"}
    assert broken(one(30, "refuse"), one(20, "refuse")) == {"profile"}
    assert broken(one(None, "refuse"), one(20, "refuse")) == {"profile"}
    assert not broken(one(20, "refuse"), one(30, "accept"))
    assert not broken(one(20, "refuse"), one(None, "refuse"))


def test_what_is_answered_must_stay() -> None:
    assert "task" in broken(schema_of(), schema_of("regression"))
    three = schema_of("multiclass")
    assert broken(three, replace(three, classes=("low", "mid"))) == {"classes"}
    assert not broken(three, replace(three, classes=("low", "mid", "high", "huge")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Number(), Number(min=0)),
        (Number(max=9), Number(max=8)),
        (Number(), Integer()),
        (Number(nulls=0.1), Number()),
        (Boolean(), Number()),
        (Category(), Category(["a"])),
        (Category(["a", "b"]), Category(["a"])),
        (Text(), Text(max_length=10)),
    ],
)
def test_a_narrower_column_is_found_and_the_wider_is_not(old: Column, new: Column) -> None:
    assert list(narrower(old, new))
    assert not list(narrower(old, old))
    if not isinstance(old, Boolean):
        assert not list(narrower(new, old))
