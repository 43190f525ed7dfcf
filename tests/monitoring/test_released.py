"""What takes a release back: found within some dozens of answers when it is bad, never when it is as good as the one before."""

import numpy as np
import pytest

from ecluse.core.loop_settings import Rollback, Slo
from ecluse.core.verdict import Finding, Outcome
from ecluse.monitoring.exposition import Answers
from ecluse.monitoring.released import Observed, judge_release
from ecluse.stats.reference import describe_column

ALL = Rollback(on=("errors", "latency", "output", "slo"))
REFERENCE = describe_column(np.random.default_rng(0).beta(2, 5, 5_000).tolist(), "number")


def stream(
    rng: np.random.Generator, rows: int, *, errors: float = 0.005, slow: float = 1.0, wrong: bool = False
) -> Observed:
    """``rows`` answers of a release: failures, log-normal latencies of 2 ms, scores."""
    failed = int(rng.binomial(rows, errors))
    scores = rng.beta(2, 5, rows)
    return Observed(
        version=2,
        answers=Answers(rows, {"internal_error": failed} if failed else {}),
        latencies=(slow * rng.lognormal(np.log(2_000), 0.3, rows)).astype(int).tolist(),
        before=rng.lognormal(np.log(2_000), 0.3, 500).astype(int).tolist(),
        outputs=(1 - scores if wrong else scores).tolist(),
        reference=REFERENCE,
    )


def breached(seen: Observed, limits: Rollback = ALL, slo: Slo | None = None) -> set[str]:
    return {finding.check for finding in judge_release(seen, limits, slo or Slo(latency_ms=10)).failed}


@pytest.mark.parametrize(
    ("kind", "check"),
    [({"errors": 0.2}, "errors"), ({"slow": 1.5}, "latency"), ({"wrong": True}, "output")],
)
def test_a_bad_release_is_found_within_500_answers(kind: dict[str, float], check: str) -> None:
    found = [check in breached(stream(np.random.default_rng(seed), 500, **kind)) for seed in range(100)]  # type: ignore[arg-type]
    assert all(found)


def test_a_release_as_good_as_the_one_before_stays() -> None:
    """100 A/A runs, each looked at after every 50 answers: no false rollback."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        whole = stream(rng, 2_000)
        for rows in range(50, 2_001, 50):
            failed = round(whole.answers.failures * rows / 2_000)
            seen = Observed(
                2,
                Answers(rows, {"internal_error": failed} if failed else {}),
                latencies=whole.latencies[:rows],
                before=whole.before,
                outputs=whole.outputs[:rows],
                reference=REFERENCE,
            )
            assert not breached(seen), (seed, rows)


def test_without_proof_luck_would_take_good_ones_back() -> None:
    """The planted defect: the bare share against its limit, looked at again and again."""
    rng, false = np.random.default_rng(0), 0
    for _ in range(100):
        failures = np.cumsum(rng.random(2_000) < 0.005)
        false += bool((failures[49::50] / np.arange(50, 2_001, 50) > 0.02).any())
    assert false >= 5


def test_too_few_answers_say_nothing() -> None:
    verdict = judge_release(stream(np.random.default_rng(0), 20, errors=0.9), ALL, Slo())
    assert not verdict.breached
    assert {finding.outcome for finding in verdict.findings} == {Outcome.INCONCLUSIVE}


def test_a_fault_of_the_tenth_hour_does_not_drown() -> None:
    seen = Observed(2, Answers(100_000, {"internal_error": 60}), Answers(120, {"internal_error": 60}))
    assert breached(seen, Rollback(on=("errors",))) == {"errors"}


def test_a_budget_that_burns_is_an_objective_breached() -> None:
    slow = stream(np.random.default_rng(0), 500, slow=100.0)
    assert "slo" in breached(slow, slo=Slo(latency_ms=50))
    assert "slo" not in breached(stream(np.random.default_rng(0), 500), slo=Slo(latency_ms=50))


def test_what_the_ledger_tells_counts_where_it_is_asked_for() -> None:
    told = {"incident": Finding("incident", Outcome.FAILED, "wrong prices")}
    assert breached(Observed(2, told=told), Rollback(on=("incident",))) == {"incident"}
    assert breached(Observed(2, told=told), Rollback(on=("errors",))) == set()
