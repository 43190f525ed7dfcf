"""All gates together: a good candidate passes them all, a broken one is refused for the right reasons."""

from dataclasses import replace

import numpy as np
import pytest
from tests.gates.planted import INCONCLUSIVE, champion_of, evidence

from ecluse.core.codec import canonical
from ecluse.core.settings import Gates, NonRegression
from ecluse.gates.judge import ON_ROWS, ON_THE_BUNDLE, judge_gates

STRICT = Gates(floor={"roc_auc": 0.7}, non_regression=NonRegression(may_lose=0.02, rounds=200))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_good_candidate_passes_with_a_finding_per_gate(task: str) -> None:
    made = evidence(task, reproduced=True)
    verdict = judge_gates(replace(made, champion=champion_of(made)), Gates())
    assert verdict.passed, [finding.why for finding in verdict.findings if not finding.passed]
    assert len({finding.check for finding in verdict.findings}) == 13
    assert len(ON_ROWS) + len(ON_THE_BUNDLE) == 11


def test_a_candidate_of_shuffled_labels_is_refused_for_the_right_reasons() -> None:
    good = evidence()
    answers = np.random.default_rng(2).permutation(good.answers)
    verdict = judge_gates(replace(good, answers=answers, champion=champion_of(good)), STRICT)
    assert {"floor", "non_regression", "gap"} <= {finding.check for finding in verdict.failed}
    assert not {"compatibility", "leakage", "sanity", "latency"} & {finding.check for finding in verdict.failed}


def test_every_finding_is_kept_and_can_be_stored() -> None:
    made = evidence(answers=np.full(800, np.nan), latency_ms=float("inf"), overlap=3, reproduced=False)
    verdict = judge_gates(made, STRICT)
    assert {"sanity", "overlap", "reproducible", "latency"} <= {finding.check for finding in verdict.failed}
    canonical(verdict)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_without_rows_nothing_is_guessed(task: str) -> None:
    some = evidence(task)
    made = replace(some, y=some.y[:0], keys=some.keys[:0], answers=some.answers[:0], inputs=some.inputs.clear())
    verdict = judge_gates(made, STRICT)
    assert (verdict.findings[0].check, verdict.findings[0].outcome) == ("rows", INCONCLUSIVE)
    assert not verdict.passed


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_few_rows_never_raise(task: str, rows: int) -> None:
    made = evidence(task, rows=max(rows, 2))
    few = replace(
        made, y=made.y[:rows], keys=made.keys[:rows], answers=made.answers[:rows], inputs=made.inputs.head(rows)
    )
    canonical(judge_gates(replace(few, champion=champion_of(few, noise=0.1)), Gates()))


def test_rows_left_out_are_counted() -> None:
    assert "7 of a class it never saw" in judge_gates(evidence(left_out=7), Gates()).findings[0].why
