"""Numbers come from where they should, and mistakes name the file, the key and the cure."""

from datetime import timedelta
from typing import Any

import pytest

from ecluse.core.errors import DeclarationError
from ecluse.core.settings import merge, resolve


def test_defaults_stand_alone() -> None:
    settings = resolve({}, "dev", {})
    assert settings.serving.host == "127.0.0.1"
    assert settings.policy.promotion == "manual"


def test_precedence_is_defaults_file_profile_environment_flags() -> None:
    file: dict[str, Any] = {"serving": {"port": 1, "host": "a"}, "prod": {"serving": {"port": 2}}}
    assert resolve(file, "dev", {}).serving.port == 1
    assert resolve(file, "prod", {}).serving.port == 2
    assert resolve(file, "prod", {}).serving.host == "a"
    assert resolve(file, "prod", {"ECLUSE_SERVING__PORT": "3"}).serving.port == 3
    assert resolve(file, "prod", {"ECLUSE_SERVING__PORT": "3"}, {"serving": {"port": 4}}).serving.port == 4


def test_durations_are_written_as_people_say_them() -> None:
    assert resolve({"training": {"embargo": "1d12h"}}, "dev", {}).training.embargo == timedelta(hours=36)


def test_a_model_has_its_own_numbers() -> None:
    settings = resolve(
        {"gates": {"max_gap": 0.1}, "models": {"churn": {"gates": {"floor": {"roc_auc": 0.7}}}}}, "dev", {}
    )
    assert settings.for_model("churn").gates.floor == {"roc_auc": 0.7}
    assert settings.for_model("churn").gates.max_gap == 0.1
    assert settings.for_model("other").gates.floor == {}


@pytest.mark.parametrize(
    ("file", "key", "cure"),
    [
        ({"gats": {}}, "gats", "did you mean `gates`"),
        ({"gates": {"flor": {}}}, "gates.flor", "did you mean `floor`"),
        ({"gates": {"max_gap": "much"}}, "gates.max_gap", "a number"),
        ({"gates": {"reproducible": 1}}, "gates.reproducible", "true or false"),
        ({"serving": {"port": True}}, "serving.port", "whole number"),
        ({"policy": {"promotion": "maybe"}}, "policy.promotion", "one of manual"),
        ({"training": {"held_out": 1.5}}, "held_out", "between 0 and 1"),
        ({"training": {"embargo": "soon"}}, "soon", "45d"),
        ({"gates": {"non_regression": {"may_lose": 0.1, "must_gain": 0.1}}}, "both may_lose and must_gain", "keep one"),
        ({"prod": {"serving": {"prt": 1}}}, "serving.prt", "did you mean `port`"),
        ({"models": {"churn": {"serving": {"port": 1}}}}, "models.churn.serving", "model tables"),
        ({"profile": "x"}, "profile", ""),
        ({"gates": 3}, "gates", "a table"),
    ],
)
def test_mistakes_name_file_key_and_cure(file: dict[str, Any], key: str, cure: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        resolve(file, "dev", {})
    assert key in str(caught.value)
    assert cure in caught.value.cure
    assert "ecluse.toml" in str(caught.value)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(DeclarationError, match="dev, staging, prod"):
        resolve({}, "production", {})


def test_an_unknown_environment_variable_is_refused() -> None:
    with pytest.raises(DeclarationError, match="environment"):
        resolve({}, "dev", {"ECLUSE_SERVING__PROT": "1"})


def test_reserved_environment_variables_are_not_settings() -> None:
    assert resolve({}, "dev", {"ECLUSE_SEALING_KEY": "00", "ECLUSE_PROFILE": "prod"}).profile == "dev"


def test_merge_does_not_touch_its_arguments() -> None:
    base = {"a": {"x": 1}}
    merge(base, {"a": {"x": 2}})
    assert base == {"a": {"x": 1}}


@pytest.mark.parametrize("url", ["https://h/für", "https://bücher.example/", "https://h/a b", "https://h/a\nb"])
def test_an_address_that_cannot_be_sent_as_it_stands_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(DeclarationError, match="percent-encode") as said:
        resolve({"notify": {"pager": {"url": url}}}, "dev", {})
    assert url not in str(said.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("port", -1), ("port", 99_999), ("max_in_flight", 0), ("max_body_bytes", -5), ("max_body_bytes", 0)],
)
def test_a_control_api_that_could_answer_nothing_is_refused(key: str, value: int) -> None:
    with pytest.raises(DeclarationError, match=f"control.{key} = {value}.*from [01]"):
        resolve({"control": {key: value}}, "dev", {})
