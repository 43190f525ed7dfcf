"""Parameters: defaults, file, command; and every mistake by name."""

from typing import Any

import pytest
from tests.training.jobs import VIEW, model_of

from ecluse.core.errors import DeclarationError
from ecluse.core.model import Choice, Range, model
from ecluse.training.parameters import choose_parameters

RATE, WIDE = Range(0.1, 0.5, default=0.2), Range(0.0, 2.0, default=0.5)
LEAVES, KIND = Range(3, 31, default=15), Choice("a", "b")


def build(rate: Any = RATE, leaves: Any = LEAVES, kind: Any = KIND, seed: Any = None) -> Any:
    return (rate, leaves, kind, seed)


MODEL = model("churn", predicts=model_of("binary").predicts, features=[VIEW], judged_by="roc_auc")(build)


def test_the_command_wins_over_the_file_over_the_default() -> None:
    chosen = choose_parameters(MODEL, {"rate": 0.3, "leaves": 7}, {"rate": 0.4, "seed": 3})
    assert chosen == {"kind": "a", "leaves": 7, "rate": 0.4, "seed": 3}


def test_whole_numbers_are_numbers() -> None:
    wide = model("churn", predicts=MODEL.predicts, features=[VIEW], judged_by="roc_auc")
    assert choose_parameters(wide(lambda rate=WIDE: rate), {"rate": 1})["rate"] == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rat": 0.3}, "did you mean `rate`"),
        ({"rate": 0.9}, "from 0.1 to 0.5"),
        ({"leaves": 3.5}, "a whole number"),
        ({"leaves": True}, "a whole number"),
        ({"rate": "fast"}, "a number"),
        ({"kind": "c"}, "one of 'a', 'b'"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        choose_parameters(MODEL, given)
    with pytest.raises(DeclarationError, match=message):
        choose_parameters(MODEL, {}, given)


def test_another_model_s_parameter_in_the_file_is_no_mistake() -> None:
    assert "depth" not in choose_parameters(MODEL, {"depth": 3}, others={"depth"})
    with pytest.raises(DeclarationError, match="depth"):
        choose_parameters(MODEL, {}, {"depth": 3}, others={"depth"})
