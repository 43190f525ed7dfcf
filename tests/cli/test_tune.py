"""`ecluse tune --train`: a search, a candidate of its best parameters, and the verdict of the gates in the exit code."""

from pathlib import Path

import pytest
from tests.cli.terminal import ecluse, ingest_all, small_project


@pytest.mark.slow
def test_the_best_parameters_make_a_candidate_that_is_judged(tmp_path: Path) -> None:
    project = small_project(tmp_path / "churn")
    ingest_all(project)
    said = ecluse("tune", "--trials", 2, "--folds", 2, "--train", "--json", project=project)
    answer = said.json
    assert answer["verdict"]["findings"], answer
    assert answer["gate"], answer
    assert answer["gate"]["version"] == 1, said.out + said.err
    findings = {finding["check"]: finding for finding in answer["gate"]["verdict"]["findings"]}
    assert findings["reproducible"]["outcome"] == "passed"
    assert said.code == (0 if all(f["outcome"] == "passed" for f in answer["gate"]["verdict"]["findings"]) else 3)
    best = next(t for t in answer["tuning"]["trials"] if t["number"] == answer["best"])
    run = ecluse("runs", "--json", project=project).json[0]
    assert run["parameters"] == best["parameters"]
    again = ecluse("tune", "--trials", 2, "--folds", 2, "--resume", project=project)
    assert again.code == 0, again.err
    assert "[parameters]" in again.out
    refused = ecluse("tune", "--trials", 2, "--folds", 3, "--resume", "--json", project=project)
    assert (refused.code, refused.error["kind"]) == (5, "Conflict")
