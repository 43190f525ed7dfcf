"""What is declared survives its canonical form; what contradicts itself is refused by name."""

import json

import pytest
from tests.core.nouns import ENGAGEMENT, LABELS, LEFT, USAGE, USER, build, churn

from ecluse.core import codec, project
from ecluse.core.contract import Boolean, Instant, Number, Rule, Table, Text
from ecluse.core.entity import Entity
from ecluse.core.errors import DeclarationError, NotFound
from ecluse.core.expression import col, feature
from ecluse.core.model import Choice, Fixed, Label, Range, model
from ecluse.core.view import FeatureView, distinct, last, mean


def test_the_declaration_reads_back_equal_and_to_the_same_bytes() -> None:
    declared = project.gather([churn()], code="abc")
    stored = codec.canonical(declared)
    again = codec.from_plain(project.Project, json.loads(stored), where="stored")
    assert again == declared
    assert codec.canonical(again) == stored
    assert list(again.models[0].input_kinds.items()) == list(declared.models[0].input_kinds.items())


def test_tables_are_found_through_views_and_labels() -> None:
    declared = project.gather([churn()])
    assert [table.name for table in declared.tables] == ["labels", "usage"]
    assert [table.name for table in declared.tables_of(declared.model())] == ["labels", "usage"]


def test_inputs_are_named_in_one_order_and_hold_no_instants() -> None:
    kinds = churn().input_kinds
    assert kinds == {
        "hours_30d": "number",
        "idle_days": "number",
        "per_session": "number",
        "plan": "category",
        "sessions_30d": "number",
    }
    assert list(kinds) == sorted(kinds)


def test_the_builders_parameters_are_the_hyperparameters() -> None:
    assert churn().parameters == {"rate": Range(0.1, 0.3, default=0.2), "leaves": Choice(15, 31), "seed": Fixed(0)}


def test_whole_numbers_stay_whole_through_the_canonical_form() -> None:
    stored = json.loads(codec.canonical(churn()))
    leaves = codec.from_plain(type(churn()), stored, where="x").parameters["leaves"]
    assert isinstance(leaves.default, int)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Table("t", USER, {"a": Number()}, event_time="b"), "`b` is not an Instant"),
        (lambda: Table("t", USER, {"user_id": Text()}), "`user_id` is the key"),
        (lambda: Table("t", USER, {"a": Number()}, rules=(Rule("r", col("zz") > 1),)), "zz"),
        (lambda: Table("t", USER, {"a": Number()}, zone="Mars/Base"), "Mars/Base"),
        (lambda: Table("t", USER, {"a": Number()}, quarantine=2), "quarantine"),
        (lambda: Table("t", USER, {"a": Number()}, identity=("b",)), "identity"),
        (lambda: FeatureView("v", USAGE, {"x": last("nope")}), "no column `nope`"),
        (lambda: FeatureView("v", USAGE, {"x": mean("plan", over="3d")}), "mean of Category"),
        (lambda: FeatureView("v", USAGE, {"x": last("session")}), "Text cannot be a feature"),
        (lambda: FeatureView("v", USAGE, {"x": distinct("plan", over="0d")}), "over='0d'"),
        (lambda: FeatureView("v", USAGE, {"x": distinct("plan", over="a while")}), "a while"),
        (lambda: Label("l", USAGE, column="session"), "Boolean (binary)"),
        (lambda: Label("l", USAGE, column="nope"), "no column `nope`"),
        (lambda: Range(0.5, 0.1, default=0.2), "low <= default"),
        (lambda: Choice(1, 2, default=3), "default 3"),
        (lambda: Entity("two words"), "two words"),
        (lambda: model("m", predicts=LEFT, features=[], judged_by="f1")(build), "no features"),
        (
            lambda: model("m", predicts=LEFT, features=[ENGAGEMENT], judged_by="f1", derived={"d": feature("q") + 1})(
                build
            ),
            "q",
        ),
        (
            lambda: model(
                "m", predicts=LEFT, features=[ENGAGEMENT], judged_by="f1", derived={"plan": feature("hours_30d") + 1}
            )(build),
            "hides",
        ),
        (
            lambda: model("m", predicts=LEFT, features=[ENGAGEMENT], judged_by="f1", request={"plan": Number()})(build),
            "`plan` is in",
        ),
        (
            lambda: model(
                "m",
                predicts=LEFT,
                features=[FeatureView("v", Table("t", Entity("version"), {"n": Number()}), {"x": last("n")})],
                judged_by="f1",
            )(build),
            "'version' has a meaning of its own",
        ),
    ],
)
def test_contradictions_are_refused_by_name(make: object, names: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        make()  # type: ignore[operator]
    assert names in str(caught.value)
    assert caught.value.cure


def test_two_tables_of_one_name_are_refused() -> None:
    other = Table("usage", USER, {"hours": Number()})
    with pytest.raises(DeclarationError, match="two different Table named 'usage'"):
        project.gather([churn(), other])


def test_a_reference_must_name_a_table() -> None:
    with pytest.raises(DeclarationError, match="nobody"):
        project.gather([churn(), Table("extra", USER, {"at": Instant()}, references=("nobody",))])


def test_a_project_needs_a_model() -> None:
    with pytest.raises(DeclarationError, match="no model"):
        project.gather([USAGE, LABELS])


def test_the_only_model_needs_no_name_but_several_do() -> None:
    one = project.gather([churn()])
    assert one.model().name == "churn"
    two = project.gather([churn(), model("second", predicts=LEFT, features=[ENGAGEMENT], judged_by="f1")(build)])
    with pytest.raises(DeclarationError, match="churn, second"):
        two.model()
    with pytest.raises(NotFound, match="third"):
        two.model("third")


def test_a_parameter_needs_a_default() -> None:
    def without(rate: float) -> None: ...

    with pytest.raises(DeclarationError, match="no default"):
        model("m", predicts=LEFT, features=[ENGAGEMENT], judged_by="f1")(without)


def test_an_empty_boolean_label_is_binary() -> None:
    assert Label("l", Table("t", USER, {"y": Boolean()}), "y").task == "binary"
