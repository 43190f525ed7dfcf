"""The demo's story at a small size: real data, server, traffic, drift, releases and rollback; the summary keeps what was seen."""

from pathlib import Path
from typing import Any

import pytest

from ecluse.core.errors import Conflict
from ecluse.demo.story import LEAST_REQUESTS, MARKER, month_end, tell

KEYS = {"steps", "versions", "verdicts", "decisions", "requests", "drift", "rollback_seconds", "total_seconds"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    folder = tmp_path_factory.mktemp("demo") / "story"
    return tell(folder, port=0, subscribers=1_500, say=lines.append), lines


@pytest.mark.slow
def test_every_step_goes_as_told(told: tuple[dict[str, Any], list[str]]) -> None:
    summary, lines = told
    assert set(summary) == KEYS
    assert [step["name"] for step in summary["steps"] if not step["ok"]] == [], "\n".join(lines[-15:])
    assert all(set(step) == {"name", "seconds", "ok"} for step in summary["steps"])
    assert summary["total_seconds"] >= max(step["seconds"] for step in summary["steps"])
    assert summary["steps"][-1]["name"] == "the ledger"


@pytest.mark.slow
def test_no_request_fails_through_a_release_and_a_rollback(told: tuple[dict[str, Any], list[str]]) -> None:
    requests = told[0]["requests"]
    assert requests["failed"] == 0
    assert requests["sent"] >= LEAST_REQUESTS
    assert told[0]["rollback_seconds"] > 0


@pytest.mark.slow
def test_the_drift_is_found_and_names_features(told: tuple[dict[str, Any], list[str]]) -> None:
    drift = told[0]["drift"]
    assert drift["detected"] is True
    assert drift["features"]
    assert any("drift_share" in finding["check"] for finding in drift["findings"]), drift["findings"]


@pytest.mark.slow
def test_the_second_version_is_better_with_an_interval_and_the_broken_one_refused(
    told: tuple[dict[str, Any], list[str]],
) -> None:
    first, second, broken = told[0]["verdicts"]
    assert first["passed"]
    assert second["passed"]
    assert not broken["passed"]
    gain = next(finding for finding in second["findings"] if finding["check"] == "non_regression")
    assert gain["measured"] > 0
    assert "[" in gain["why"]
    refused = {finding["check"] for finding in broken["findings"] if finding["outcome"] == "failed"}
    assert {"floor", "non_regression"} <= refused
    assert [version["version"] for version in told[0]["versions"]] == [1, 2, 3]
    assert len({version["bundle"] for version in told[0]["versions"]}) == 3


@pytest.mark.slow
def test_the_decisions_are_those_of_the_ledger_in_order(told: tuple[dict[str, Any], list[str]]) -> None:
    made = [(d["what"], d["version"]) for d in told[0]["decisions"] if d["what"].startswith("version.")]
    turns = [each for each in made if each[0] in ("version.promoted", "version.rejected", "version.rolled_back")]
    assert turns[-4:-2] == [("version.promoted", 1), ("version.promoted", 2)]
    assert turns[-2] == ("version.rejected", 3)
    assert turns[-1][0] == "version.rolled_back"


def test_a_folder_that_is_no_demo_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match="not a demo"):
        tell(tmp_path, port=0, subscribers=600, say=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / MARKER).exists()


def test_a_month_ends_on_its_last_day() -> None:
    assert month_end("2024-02").day == 29
