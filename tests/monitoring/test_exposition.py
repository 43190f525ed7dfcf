"""The workers' counters, read back from their own text."""

import pytest

from ecluse.core.errors import InvalidInput
from ecluse.monitoring.exposition import answers_of, grown, read_samples
from ecluse.serving.board import merge
from ecluse.serving.metrics import Metrics


def counted(*answers: tuple[str, int, str, int]) -> bytes:
    metrics = Metrics()
    for version, status, code, times in answers:
        for _ in range(times):
            metrics.count("predict", "churn", version, status, code, 0.001)
    return metrics.render()


def test_answers_are_read_by_version_over_all_workers() -> None:
    text = merge(
        {"w1": counted(("2", 200, "ok", 7), ("1", 500, "not_finite", 9)), "w2": counted(("2", 500, "not_finite", 3))}
    )
    answers = answers_of(read_samples(text.decode()), "churn", 2, frozenset())
    assert (answers.total, answers.failures, dict(answers.failed or {})) == (10, 3, {"not_finite": 3})


def test_what_another_version_would_have_had_as_well_is_excused() -> None:
    samples = read_samples(
        counted(("2", 200, "ok", 5), ("2", 503, "overloaded", 4), ("2", 422, "wrong_type", 1)).decode()
    )
    answers = answers_of(samples, "churn", 2, frozenset({"overloaded"}))
    assert (answers.total, answers.failures) == (6, 0)


def test_a_worker_started_anew_counts_from_nothing() -> None:
    before, now = (read_samples(counted(("2", 200, "ok", n)).decode()) for n in (9, 4))
    assert answers_of(grown(before, now), "churn", 2, frozenset()).total == 4


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no sample"):
        read_samples("<html>")
