"""`ecluse outcomes`: what became of every truth, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.terminal import ecluse, ingest_all, small_project

from ecluse.adapters.journal_files import Journal

TOLD = {"kind": "outcome", "time": "2024-01-31T00:00:00.000000Z", "model": "churn", "value": True, "extra": {}}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data ingested, nothing served, three truths told: one twice, one for a moment to come."""
    folder = small_project(tmp_path_factory.mktemp("cli") / "streaming")
    ingest_all(folder, ("01",))
    unasked = TOLD | {"request_id": "order-9", "entity": None, "at": None}
    to_come = TOLD | {"request_id": None, "entity": "u000001", "at": "2099-01-31T00:00:00.000000Z"}
    with Journal.open(folder / ".ecluse/dev/journal", "w1", durability="process") as journal:
        journal.append_many([json.dumps(each).encode() for each in (unasked, unasked, to_come)])
    return folder


def test_the_counts(house: Path) -> None:
    said = ecluse("outcomes", project=house)
    assert said.code == 0
    assert "3 truths told, 0 used, 1 duplicates, 1 orphans, 1 future" in said.out
    found = ecluse("outcomes", "--json", project=house).json
    assert found["counts"]["orphans"] == 1
    assert {"versions", "parts", "estimated", "estimates", "verdict"} <= set(found)
    assert "3 truths told" in ecluse("history", project=house).out


def test_the_quarantine(house: Path) -> None:
    said = ecluse("outcomes", "--quarantine", project=house)
    assert said.code == 0
    assert "no such prediction is in the journal" in said.out
    found = ecluse("outcomes", "--quarantine", "--json", project=house).json
    assert [(each["reason"], each["request_id"], each["entity"], each["at"]) for each in found["quarantine"]] == [
        ("duplicate", "order-9", None, None),
        ("future", None, "u000001", "2099-01-31T00:00:00Z"),
        ("orphan", "order-9", None, None),
    ]
