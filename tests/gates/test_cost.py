"""Latency, size, and whether a second training gave the same bundle."""

from tests.gates.planted import FAILED, INCONCLUSIVE, PASSED, evidence, only

from ecluse.core.settings import Gates
from ecluse.gates.cost import check_cost
from ecluse.gates.reproducible import check_reproducible


def test_a_slow_or_large_version_fails() -> None:
    found = {finding.check: finding.outcome for finding in check_cost(evidence(latency_ms=9.0), Gates())}
    assert found == {"latency": FAILED, "bundle_size": PASSED}
    found = {finding.check: finding.outcome for finding in check_cost(evidence(bundle_bytes=10**9), Gates())}
    assert found == {"latency": PASSED, "bundle_size": FAILED}
    unmeasured = check_cost(evidence(latency_ms=float("nan")), Gates())
    assert unmeasured[0].outcome is INCONCLUSIVE


def test_the_same_again_or_not() -> None:
    assert only(check_reproducible, evidence(reproduced=True)).outcome is PASSED
    assert only(check_reproducible, evidence(reproduced=False)).outcome is FAILED


def test_nobody_tried_is_said() -> None:
    finding = only(check_reproducible, evidence())
    assert (finding.outcome, finding.measured) == (PASSED, "not tried")
    assert not check_reproducible(evidence(reproduced=False), Gates(reproducible=False))
