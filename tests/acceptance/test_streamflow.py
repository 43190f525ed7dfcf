"""The whole circle on the reference tables: month 000 learnt and served, month 001 seen to drift, learnt anew, released or refused.

The labels of the two months are unrelated (the same label for 62.3 % of the users, 62.1 % expected by chance), so the second month is another
problem: what was learnt from the first is worth nothing there, and what can be learnt is weak. The findings must say so in numbers.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.acceptance.circle import MODEL, Circle, streamflow

from ecluse.core.event import LedgerRow, broken_at
from ecluse.core.rollout import Rollout
from ecluse.core.verdict import Finding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("CI") == "true", reason="the reference tables are no part of the project"),
]


@pytest.fixture
def circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Circle]:
    monkeypatch.setenv("ECLUSE_GATES__FLOOR", f"{{ roc_auc = {request.param} }}")
    monkeypatch.setenv("ECLUSE_MLFLOW__ENABLED", "false")  # the mirror has tests of its own
    with streamflow(tmp_path / "streamflow") as running:
        yield running


def _findings(circle: Circle, version: int) -> dict[str, Finding]:
    report = circle.app.world.state.report(MODEL, version)
    assert report is not None
    return {finding.check: finding for finding in report.verdict.findings}


def _number(finding: Finding) -> float:
    assert isinstance(finding.measured, float)
    return finding.measured


def _told(rows: list[LedgerRow]) -> list[str]:
    return [str(row.event.evidence.get("command", row.event.kind)) for row in rows]


def _check_first_version_and_drift(circle: Circle) -> None:
    first = _findings(circle, 1)
    assert _number(first["floor"]) >= 0.81, "a forest on users it never saw"
    assert _number(first["overlap"]) == 0
    report = circle.report
    assert report.verdict.breached
    assert report.drifted == ("rebuffer_events_7d",), "the one column that really moved"
    assert report.shifts["rebuffer_events_7d"].measured["mean_shift"] == pytest.approx(0.17, abs=0.03)
    assert MODEL not in report.shifts
    assert "user_id" not in report.shifts
    target = next(finding for finding in report.verdict.findings if finding.check == "target_shift")
    assert _number(target) == pytest.approx(0.270 - 0.242, abs=0.02), "labels are of their month"
    assert "moved by -" in target.why
    realised = report.performance.metrics["roc_auc"]
    assert realised is not None
    assert realised == pytest.approx(0.49, abs=0.05), "version 1 knows nothing of month 001"


def _check_comparison(circle: Circle) -> None:
    """The old model and the new one on the same users of month 001, whom neither was trained on."""
    found = _findings(circle, 2)
    new, gain = _number(found["floor"]), _number(found["non_regression"])
    assert 0.60 < new < 0.68
    assert 0.44 < new - gain < 0.54, "the champion on unrelated labels is no better than chance"
    assert found["non_regression"].passed
    assert f"{new - gain:.4f} of version 1" in found["non_regression"].why
    assert _number(found["overlap"]) == 0
    assert found["reproducible"].measured == "same bundle"


@pytest.mark.parametrize("circle", [0.70], indirect=True)
def test_a_floor_of_0_70_refuses_and_the_champion_serves_on(circle: Circle) -> None:
    _check_first_version_and_drift(circle)
    rows, _ = circle.react()
    assert _told(rows) == ["Retrain", "run.finished", "Gate", "version.registered", "version.gated", "Nothing"]
    _check_comparison(circle)
    report = circle.app.world.state.report(MODEL, 2)
    assert report is not None
    assert [finding.check for finding in report.verdict.failed] == ["floor"]
    assert "roc_auc" in rows[-1].event.reason
    assert circle.app.world.state.rollout(MODEL) == Rollout(MODEL, 1, champion=1)
    counts = circle.traffic.stop()
    assert (counts.failed, set(counts.versions)) == (0, {1})


@pytest.mark.parametrize("circle", [0.60], indirect=True)
def test_a_floor_of_0_60_releases_under_traffic(circle: Circle, record_property: Callable[[str, object], None]) -> None:
    _check_first_version_and_drift(circle)
    pid = circle.server.process.pid
    rows, began = circle.react()
    assert _told(rows) == [
        "Retrain", "run.finished", "Gate", "version.registered", "version.gated", "Promote", "version.promoted",
    ], [row.event.reason for row in rows]  # fmt: skip
    served = circle.wait_for(2) - began
    record_property("event_to_served_seconds", round(served, 2))
    print(f"from the event to the first answer of version 2: {served:.2f} s")
    _check_comparison(circle)
    assert circle.app.world.state.rollout(MODEL).champion == 2
    assert circle.server.process.poll() is None
    assert circle.server.process.pid == pid, "the same process: nobody restarted anything"
    assert circle.traffic.wait_for(circle.traffic.counts.sent + 100)
    counts = circle.traffic.stop()
    assert counts.failed == 0, counts.codes
    assert set(counts.versions) == {1, 2}
    assert broken_at(circle.app.world.state.ledger()) is None
