"""The serving benchmark still runs: our own server and the static limit, right answers, no request failed. Nothing is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench.serving.churn import make_churn
from bench.serving.run import measure, table
from bench.serving.servers import check, ours, static

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc and pins to CPUs")


def test_ours_and_the_limit(tmp_path: Path) -> None:
    churn = make_churn(trees=5)
    servers = [ours(tmp_path / "home", churn), static()]
    found = measure(servers, churn, tmp_path, cache=tmp_path, seconds=1, rounds=1, connections=4)
    for loads in found.values():
        assert [each.failed for each in loads] == [0]
        assert loads[0].rate > 0
    text = table(servers, found, tmp_path)
    assert text.count("\n") == 3
    assert "| 1.00× |" in text


def test_a_wrong_answer_is_not_measured(tmp_path: Path) -> None:
    churn = make_churn(trees=5)
    answers = [{"proba": right} for right in churn.answers]
    check(ours(tmp_path / "home", churn), churn, answers)
    answers[7] = {"proba": answers[7]["proba"] + 1e-6}
    with pytest.raises(ValueError, match="differ"):
        check(ours(tmp_path / "other", churn), churn, answers)
