"""Planted leaks of every kind are named; strong but honest features and columns of many names are not."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from tests.gates.planted import FAILED, PASSED, evidence, only, schema_of

from ecluse.core.schema import Feature
from ecluse.gates.evidence import Evidence
from ecluse.gates.leakage import check_leakage, check_overlap


def with_column(task: str, kind: str, values: Sequence[object] | np.ndarray) -> Evidence:
    made = evidence(task)
    schema = schema_of(task, features=(*made.schema.features, Feature("extra", kind, ())))  # type: ignore[arg-type]
    column = pl.Series("extra", values.tolist() if isinstance(values, np.ndarray) else values, strict=False)
    return evidence(task, schema=schema, inputs=made.inputs.with_columns(column))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_honest_features_pass_and_the_strongest_is_named(task: str) -> None:
    finding = only(check_leakage, evidence(task))
    assert finding.outcome is PASSED
    assert "age" in finding.why


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_copy_of_the_target_is_named(task: str) -> None:
    leak = -3 * evidence(task).y + 1
    finding = only(check_leakage, with_column(task, "number", leak))
    assert (finding.outcome, finding.subject) == (FAILED, "extra")


def test_a_missing_value_can_be_the_leak() -> None:
    y = evidence().y
    left_at = [None if each == 0 else float(i % 7) for i, each in enumerate(y)]
    assert only(check_leakage, with_column("binary", "number", left_at)).subject == "extra"
    stayed_at = [None if each == 1 else float(i % 7) for i, each in enumerate(y)]
    assert only(check_leakage, with_column("binary", "number", stayed_at)).subject == "extra"


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_category_or_a_boolean_can_be_the_leak(task: str) -> None:
    words = [f"state {int(each)}" for each in evidence(task).y]
    assert only(check_leakage, with_column(task, "category", words)).outcome is FAILED
    if task == "binary":
        assert only(check_leakage, with_column(task, "boolean", list(evidence(task).y == 0))).outcome is FAILED


def test_a_curved_copy_of_a_number_is_found_by_its_ranks() -> None:
    assert only(check_leakage, with_column("regression", "number", np.exp(evidence("regression").y))).outcome is FAILED


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_name_per_entity_is_not_powerful_by_chance(task: str) -> None:
    made = evidence(task)
    assert only(check_leakage, with_column(task, "category", made.keys.tolist())).outcome is PASSED


def test_a_number_on_a_handful_of_rows_decides_nothing() -> None:
    y = evidence("regression").y
    few: list[object] = [float(each) if i < 10 else None for i, each in enumerate(y)]
    assert only(check_leakage, with_column("regression", "number", few)).outcome is PASSED


def test_nothing_may_stand_on_both_sides_of_the_split() -> None:
    assert only(check_overlap, evidence()).outcome is PASSED
    finding = only(check_overlap, evidence(overlap=4))
    assert (finding.outcome, finding.measured) == (FAILED, 4)
    assert "4 entities" in finding.why
    assert "2 rows" in only(check_overlap, evidence(overlap=2, overlap_of="rows")).why
