"""docs/bad-input.md names a test for every bad input; this holds the table to the tests there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

ISSUED = (  # what must have a row
    "missing column", "wrong type", "negative", "unknown category", "duplicate key", "naive or future timestamp", "empty table",
    "labels that match no", "fails to fit", "predicts NaN", "corrupt bundle", "wrong seal", "unknown entity", "missing or stale feature",
    "unknown field", "10 MB", "port in use", "second server", "locked", "gone", "full disk",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(root: Path) -> list[str]:
    text = (root / "docs" / "bad-input.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith("| bad input |")]


def test_every_row_names_a_test_that_exists(root: Path, rows: list[str]) -> None:
    assert len(rows) > 40
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for path, name in named:
            tree = ast.parse((root / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, name)


def test_every_bad_input_has_a_row(rows: list[str]) -> None:
    inputs = " ".join(row.split("|")[1] for row in rows)
    assert [each for each in ISSUED if each not in inputs] == []
