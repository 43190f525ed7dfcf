"""Worth releasing? Judged on what the champion could not know, the last of it; told, and never a reason to refuse."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gates.planted import FAILED, GATES, INCONCLUSIVE, PASSED, champion_of, evidence

from ecluse.core.event import Event
from ecluse.core.loop_settings import FreshGain
from ecluse.gates.evidence import Evidence
from ecluse.gates.fresh import check_fresh, stretches
from ecluse.loop.decide import gains_nothing

DAY = 86_400e6


def judged(noise: float = 1.0, *, fresh: float = 0.5, **changes: Any) -> Evidence:
    """A row a day; the champion blurs the candidate's answers by ``noise``, and knew the truth of all but the last ``fresh`` share."""
    made = evidence(rows=800)
    at = np.arange(800, dtype=np.float64) * DAY
    champion = replace(champion_of(made, noise), fresh=at >= (1 - fresh) * 800 * DAY)
    return replace(made, at=at, champion=champion, **changes)


def test_a_candidate_that_is_better_on_fresh_labels_is_worth_it() -> None:
    found = check_fresh(judged(), GATES)
    assert found.outcome is PASSED
    assert "could not know" in found.why
    assert "before:" in found.why  # the earlier stretches are told too


def test_the_same_answers_gain_nothing() -> None:
    made = judged()
    assert made.champion is not None
    same = replace(made, champion=replace(made.champion, answers=made.answers))
    found = check_fresh(same, GATES)
    assert (found.outcome, found.measured) == (FAILED, 0.0)


def test_the_last_stretch_decides() -> None:
    """Better all along, worse of late: what was best is not what is."""
    made = judged()
    assert made.champion is not None
    late, before, now = np.arange(800) >= 650, made.champion.answers, made.answers
    assert before is not None
    old, new = np.where(late, now, before), np.where(late, before, now)
    found = check_fresh(replace(made, answers=new, champion=replace(made.champion, answers=old)), GATES)
    assert found.outcome is FAILED


def test_a_gain_must_exceed_what_is_asked() -> None:
    gates = replace(GATES, fresh=FreshGain(min_gain=0.4))
    assert check_fresh(judged(), gates).outcome is FAILED


@pytest.mark.parametrize("fresh", [0.0, 0.1])
def test_without_fresh_labels_nothing_is_said(fresh: float) -> None:
    assert check_fresh(judged(fresh=fresh), GATES).outcome is INCONCLUSIVE


def test_no_champion_and_nothing_asked() -> None:
    assert check_fresh(replace(judged(), champion=None), GATES).outcome is PASSED
    assert check_fresh(judged(), replace(GATES, fresh=FreshGain(rows=0))).outcome is INCONCLUSIVE
    assert check_fresh(replace(judged(), at=None), GATES).outcome is INCONCLUSIVE


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(1, 5))
def test_stretches_take_every_row_once_in_order(moments: list[int], windows: int) -> None:
    at = np.array(moments, dtype=float)
    found = stretches(at, np.ones(len(at), dtype=bool), windows)
    assert len(found) <= windows
    assert np.array_equal(np.sum(found, axis=0), np.ones(len(at)))
    assert all(mask.any() for mask in found)
    ends = [(at[mask].min(), at[mask].max()) for mask in found]
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_only_what_was_found_to_gain_nothing_is_kept_back() -> None:
    def gated(**evidence: Any) -> Event:
        return Event("version.gated", datetime(2024, 1, 1, tzinfo=UTC), "loop", "churn", 2, evidence=evidence)

    assert gains_nothing(gated(fresh_gain={"outcome": "failed", "why": "no more than 0"})) == "no more than 0"
    for told in ({}, {"fresh_gain": {"outcome": "passed"}}, {"fresh_gain": {"outcome": "inconclusive"}}):
        assert gains_nothing(gated(**told)) == ""
