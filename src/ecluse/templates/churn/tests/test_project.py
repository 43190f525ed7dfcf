"""The declaration holds, generated months keep its contracts, and no feature looks ahead."""

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import ecluse

PROJECT = Path(__file__).resolve().parents[1]
MONTHS = {"2024-01": "31", "2024-02": "29", "2024-03": "31", "2024-04": "30"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The project beside its state: a copy with four small months, of which nothing is ingested yet."""
    root = tmp_path_factory.mktemp("project")
    for file in ("project.py", "ecluse.toml", "generate.py"):
        shutil.copy(PROJECT / file, root)
    generate = [sys.executable, "generate.py", "--months", "4", "--subscribers", "800", "--drift-from", "2024-04"]
    subprocess.run(generate, cwd=root, check=True, capture_output=True)
    return ecluse.open(root, profile="dev")


@pytest.fixture(scope="module")
def ingests(app):
    """What each month's ingest found, and the training table as it was after it."""
    found = {}
    for month, day in MONTHS.items():
        done = app.ingest(app.root / "data" / month, datetime.fromisoformat(f"{month}-{day}T00:00:00Z"))
        found[month] = done, app.training_table("churn") if month >= "2024-03" else None
    return found


def test_the_declaration_holds(app):
    churn = app.project.model("churn")
    assert churn.task == "binary"
    assert churn.build(**{name: each.default for name, each in churn.parameters.items()}) is not None


@pytest.mark.parametrize("month", MONTHS)
def test_a_month_keeps_its_contracts(ingests, month):
    done, _ = ingests[month]
    assert done.passed
    assert {table.table: table.counts for table in done.tables if table.quarantined} == {}


def test_what_came_later_changes_no_feature(ingests):
    early, late = ingests["2024-03"][1], ingests["2024-04"][1]
    row = ["__key", "__at"]
    again = late.join(early, on=row, how="semi").sort(row)
    assert 0 < early.height < late.height
    assert again.equals(early.sort(row))
