"""Numbers come from where they should, and mistakes name the file, the key and the cure."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest

from ecluse.core.errors import DeclarationError
from ecluse.core.settings import MODEL_TABLES, Settings, merge, resolve


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
        ({"triggers": {"training_timeout": "0d"}}, "training_timeout", "6h"),
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


SIGNED = {"costs.false_positive", "costs.false_negative", "costs.action_value", "gates.baseline_margin"} | {
    "gates.fresh.min_gain"
}


def numbers(row: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number and time of the settings: its path, and one below anything that can be meant (no text is a time below none)."""
    for name, hint in get_type_hints(type(row)).items():
        here, kinds = (*path, name), set(get_args(hint)) or {hint}
        if is_dataclass(value := getattr(row, name)):
            yield from numbers(value, here)
        elif {int, float} & kinds and ".".join(here) not in SIGNED:
            yield here, -1


NUMBERS = list(numbers(Settings()))


@pytest.mark.parametrize(("path", "value"), NUMBERS, ids=[".".join(path) for path, _ in NUMBERS])
def test_no_number_is_below_what_can_be_meant(path: tuple[str, ...], value: float) -> None:
    """Every number there is: one that is added needs a bound as well, or a word here."""
    if path == ("gates", "sanity", "positive_rate"):
        value = [value, 1]  # type: ignore[assignment]
    file: Any = value
    for key in reversed(path):
        file = {key: file}
    for given in (file, {"models": {"churn": file}} if path[0] in MODEL_TABLES else file):
        with pytest.raises(DeclarationError) as caught:
            resolve(given, "dev", {})
        assert path[-1] in str(caught.value)
        assert caught.value.cure


@pytest.mark.parametrize(
    ("file", "said", "cure"),
    [
        ({"triggers": {"new_rows": -5}}, "`triggers.new_rows` is -5", "give 0 or more"),
        ({"triggers": {"new_share": -1.0}}, "`triggers.new_share` is -1.0", "give 0 or more"),
        ({"triggers": {"every": "0d"}}, "`triggers.every` is 0d", "give a time"),
        ({"monitoring": {"last": 0}}, "`monitoring.last` is 0", "give 1 or more"),
        ({"monitoring": {"period": "0s"}}, "`monitoring.period` is 0d", "give a time"),
        ({"monitoring": {"drift_share": 20.0}}, "`monitoring.drift_share` is 20.0", "a share from 0 to 1"),
        ({"slo": {"latency_ms": 0}}, "`slo.latency_ms` is 0", "more than 0"),
        ({"serving": {"port": 70_000}}, "`serving.port` is 70000", "up to 65535"),
        ({"gates": {"sanity": {"positive_rate": [0.9, 0.1]}}}, "`gates.sanity.positive_rate` is [0.9, 0.1]", "smaller"),
    ],
)
def test_a_number_out_of_its_bounds_names_key_and_cure(file: dict[str, Any], said: str, cure: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        resolve(file, "dev", {})
    assert said in str(caught.value)
    assert cure in caught.value.cure
    assert caught.value.where == "ecluse.toml"
