"""Validation: what a request may hold, and that no bytes at all get anything but a checked request or a named refusal."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.house import SCHEMA, with_schema

from ecluse.core.contract import Boolean, Category, Column, Instant, Integer, Number
from ecluse.core.entity import Entity
from ecluse.serving.problems import KINDS, Refused, problem_body
from ecluse.serving.validate import (
    _parse_plain,
    check_value,
    make_form,
    parse_json,
    parse_object,
    read_entity,
    read_request,
)

FORM = make_form(SCHEMA)
SENT = {"hours": 3, "plan": "Gold", "fee": None, "since": "2024-01-01"}


def refusal(body: bytes | dict[str, Any]) -> Refused:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refused) as caught:
        read_request(parse_object(data), FORM)
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"user_id": NaN}', "invalid_json"),
        (b'{"user_id": Infinity}', "invalid_json"),
        (b'{"user_id": "\\ud800"}', "invalid_json"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "invalid_json"),
        (b'{"user_id": "a", "user_id": "b"}', "duplicate_key"),
        (b"[" * 10_000 + b"]" * 10_000, "too_deep"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b'"u1"', "wrong_type"),
    ],
)
def test_bytes_that_are_no_request(body: bytes, code: str) -> None:
    assert refusal(body).code == code


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "missing_field", "user_id"),
        ({"user_id": "u1"}, "missing_field", "gift"),
        ({"user_id": None, "gift": True}, "wrong_type", "user_id"),
        ({"user_id": True, "gift": True}, "wrong_type", "user_id"),
        ({"user_id": 1.5, "gift": True}, "wrong_type", "user_id"),
        ({"user_id": {"a": 1}, "gift": True}, "wrong_type", "user_id"),
        ({"user_id": "", "gift": True}, "wrong_type", "user_id"),
        ({"user_id": "x" * 600, "gift": True}, "wrong_type", "user_id"),
        ({"user_id": "a\x00b", "gift": True}, "wrong_type", "user_id"),
        ({"user_id": "u1", "gift": 1}, "wrong_type", "gift"),
        ({"user_id": "u1", "gift": "yes"}, "wrong_type", "gift"),
        ({"user_id": "u1", "gift": None}, "missing_value", "gift"),
        ({"user_id": "u1", "gift": True, "gfit": 1}, "unknown_field", "gfit"),
        ({"user_id": "u1", "gift": True, "as_of": "soon"}, "invalid_instant", "as_of"),
        ({"user_id": "u1", "gift": True, "as_of": "2024-01-31T00:00:00"}, "invalid_instant", "as_of"),
        ({"user_id": "u1", "gift": True, "as_of": 5}, "wrong_type", "as_of"),
        ({"user_id": "u1", "gift": True, "features": SENT}, "ambiguous_request", "features"),
        ({"gift": True, "features": {**SENT, "gift": True}}, "ambiguous_request", "gift"),
        ({"gift": True, "features": []}, "wrong_type", "features"),
        ({"gift": True, "features": {k: v for k, v in SENT.items() if k != "plan"}}, "missing_field", "features.plan"),
        ({"gift": True, "features": {**SENT, "hour": 1}}, "unknown_field", "features.hour"),
        ({"gift": True, "features": {**SENT, "hours": -1}}, "out_of_range", "hours"),
        ({"gift": True, "features": {**SENT, "hours": 745}}, "out_of_range", "hours"),
        ({"gift": True, "features": {**SENT, "hours": None}}, "missing_value", "hours"),
        ({"gift": True, "features": {**SENT, "plan": "Platinum"}}, "unknown_category", "plan"),
        ({"gift": True, "features": {**SENT, "plan": ["Gold"]}}, "wrong_type", "plan"),
    ],
)
def test_requests_that_cannot_be_used(body: dict[str, Any], code: str, field: str) -> None:
    refused = refusal(body)
    assert (refused.code, refused.field) == (code, field)


def test_a_misspelt_field_is_told_its_name() -> None:
    assert "gift" in refusal({"user_id": "u1", "gfit": True}).cure


def test_a_number_beyond_doubles_is_out_of_range() -> None:
    assert (
        refusal(b'{"gift": true, "features": {"hours": 1e309, "plan": "Gold", "fee": 1, "since": "2024-01-01"}}').code
        == "out_of_range"
    )
    assert refusal({"gift": True, "features": {**SENT, "hours": 10**400}}).code == "out_of_range"


def test_an_entity_request() -> None:
    asked = read_request({"user_id": 7, "gift": True, "as_of": "2024-01-31"}, FORM)
    assert (asked.entity, asked.keys, asked.given, asked.explicit) == (
        {"user_id": "7"},
        {"user_id": "7"},
        {"gift": True},
        None,
    )
    assert asked.as_of == 1_706_659_200_000_000


def test_explicit_features() -> None:
    asked = read_request({"gift": False, "features": SENT}, FORM)
    assert asked.explicit == {"hours": 3.0, "plan": "Gold", "fee": None, "since": 1_704_067_200_000_000}
    assert asked.entity == {}


@pytest.mark.parametrize(
    ("accepts", "body"), [("entity", {"gift": True, "features": SENT}), ("features", {"user_id": "u1", "gift": True})]
)
def test_a_mode_the_model_does_not_accept(accepts: str, body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read_request(body, make_form(with_schema(accepts=accepts)))
    assert caught.value.code == "mode_not_accepted"


def test_composite_and_integer_keys() -> None:
    order = Entity("order", kind="integer", columns=("shop", "no"))
    assert read_entity({"shop": 1, "no": "02"}, order) == ({"shop": 1, "no": 2}, '["1","2"]')
    with pytest.raises(Refused) as caught:
        read_entity({"shop": 1}, order)
    assert (caught.value.code, caught.value.field) == ("missing_field", "no")
    with pytest.raises(Refused):
        read_entity({"shop": 1, "no": "x"}, order)


@pytest.mark.parametrize(
    ("column", "value", "checked"),
    [
        (Number(), 3, 3.0),
        (Number(nulls=0.1), None, None),
        (Integer(), 3.0, 3.0),
        (Boolean(), True, True),
        (Category(), "anything", "anything"),
        (Instant(), "1970-01-01T00:00:01Z", 1_000_000),
    ],
)
def test_values_inside_their_contract(column: Column, value: Any, checked: Any) -> None:
    found = check_value("x", value, column)
    assert found == checked
    assert type(found) is type(checked)


@pytest.mark.parametrize(
    ("column", "value"), [(Integer(), 3.5), (Number(), True), (Category(), "x" * 600), (Instant(), "x" * 100_000)]
)
def test_values_outside_their_contract(column: Column, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        check_value("x", value, column)
    assert len(caught.value.what) < 200, "a message never repeats a caller's megabyte"


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    with contextlib.suppress(Refused):
        parse_json(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.just("Gold"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["user_id", "gift", "features", "as_of", "request_id", "hours"]) | st.text(max_size=6)
FEATURE_NAMES = st.dictionaries(st.sampled_from([*SENT, "gift"]), JSON, min_size=4)


@given(st.dictionaries(NAMES, JSON | FEATURE_NAMES, max_size=6))
def test_any_object_is_checked_or_refused(body: dict[str, Any]) -> None:
    try:
        asked = read_request(parse_object(json.dumps(body).encode()), FORM)
    except Refused as error:
        refused = error
    else:
        values = [*asked.given.values(), *(asked.explicit or {}).values()]
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in values)
        return
    assert 400 <= refused.kind.status < 500
    assert json.loads(problem_body(refused, "r1"))["code"] == refused.code


def test_every_problem_has_a_status_a_title_and_a_cure() -> None:
    for code, kind in KINDS.items():
        assert 400 <= kind.status < 600, code
        assert kind.title, code
        assert kind.cure, code
        assert kind.status != 503 or kind.retry_after, f"{code}: a caller must know when to come back"


MARKS = ("{", "}", "[", "]", ":", ",", '"', "é", "\ufeff", "\u2028", "\x00", "\\", "\\ud800", " ", "\n")
WORDS = (
    '"a"',
    '"a:b"',
    '"features"',
    "null",
    "true",
    "{}",
    "[[]]",
    "-0",
    "-0.0",
    "1e5",
    "1e400",
    "1e-400",
    "01",
    "1.",
    "NaN",
)
PIECES = st.sampled_from((*MARKS, *WORDS, "9007199254740993", "18446744073709551616", "1" * 400))
VALUES = st.one_of(PIECES, st.floats(width=64).map(repr), st.integers().map(str), st.text().map(json.dumps))
PAIRS = st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"features"', '"é"', '""']), VALUES), max_size=4)
OBJECTS = PAIRS.map(lambda pairs: "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}")


LIKE_JSON = (
    OBJECTS | OBJECTS.map('{{"features": {}}}'.format) | st.lists(PIECES, max_size=10).map("".join).map("{{{}}}".format)
)


@settings(max_examples=400, deadline=None)
@given(LIKE_JSON)
def test_the_quick_way_to_read_an_object_takes_nothing_the_careful_one_refuses_or_reads_otherwise(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    if (quick := _parse_plain(body)) is not None:
        assert repr(quick) == repr(parse_json(body))
