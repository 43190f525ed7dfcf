"""A model or a metric that ecluse.toml names and nobody declares is refused with the names there are, before anything is judged by it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.core.nouns import LABELS, churn
from tests.test_resident import PROJECT

from ecluse.app import open_app
from ecluse.core.errors import DeclarationError
from ecluse.core.model import Label
from ecluse.core.project import gather
from ecluse.core.settings import resolve
from ecluse.loop.named import check_named
from ecluse.stats.catalog import measure

VISITS = Label("visits", LABELS, column="visits")
DECLARED = gather([churn(), replace(churn(), name="visits", predicts=VISITS, judged_by="rmse")])


def limits(**performance: float) -> dict[str, Any]:
    return {"monitoring": {"performance": performance}}


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"nope": {"gates": {"max_gap": 0.1}}}, ("`models.nope`", "models: churn, visits")),
        (
            {"churn": limits(roc_acu=0.7)},
            ("`roc_acu`", "ecluse.toml: monitoring.performance of model churn", "roc_auc"),
        ),
        ({"visits": limits(roc_auc=0.7)}, ("`roc_auc`", "for regression", "rmse, mae")),
        ({"churn": limits(accuracy_trivial=0.7)}, ("`accuracy_trivial`",)),
        ({"churn": limits(precision_at_20=0.7)}, ("`precision_at_20`", "precision_at_10")),
        ({"churn": limits(expected_value=1.0)}, ("`expected_value` without costs", "[costs]")),
    ],
)
def test_names_that_are_nobodys(models: dict[str, Any], said: tuple[str, ...]) -> None:
    with pytest.raises(DeclarationError) as caught:
        check_named(DECLARED, resolve({"models": models}, "dev", {}))
    assert all(each in str(caught.value) for each in said), str(caught.value)


def test_every_metric_that_may_have_a_limit_is_measured() -> None:
    costs = {"false_positive": 1.0, "false_negative": 1.0, "action_value": 1.0}
    binary = dict.fromkeys(measure("binary", [0, 1], [0.1, 0.9], costs=costs), 0.5)
    for name in ("accuracy_trivial", "log_loss_trivial"):
        del binary[name]
    models = {"churn": {**limits(**binary), "costs": costs}, "visits": limits(rmse=3.0, mape=0.2)}
    check_named(DECLARED, resolve({"models": models}, "dev", {}))


@pytest.mark.parametrize(
    "text", ["[monitoring]\nperformance = { roc_acu = 0.72 }", "[models.nope.gates]\nmax_gap = 0.1"]
)
def test_no_command_goes_on_with_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "ecluse.toml").write_text(text)
    with pytest.raises(DeclarationError, match=r"ecluse\.toml"):
        _ = open_app(tmp_path).project
    (tmp_path / "ecluse.toml").write_text("")
    assert open_app(tmp_path).project.models, "and is remembered"
    (tmp_path / "ecluse.toml").write_text(text)
    with pytest.raises(DeclarationError, match=r"ecluse\.toml"):
        _ = open_app(tmp_path).declared
    (tmp_path / "project.py").write_text(PROJECT + "\n# another\n")
    assert open_app(tmp_path).declared.models, "of other sources it says nothing"
