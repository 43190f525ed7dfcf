"""Estimated performance: close to what turns out while inputs move, and no number at all once the same inputs mean something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.monitoring.months import CONCEPTS, MODELS, House, house, split_up

from ecluse.monitoring.estimated import Estimated, Rows, estimate
from ecluse.stats.metrics_binary import roc_auc

DRIFTS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
ROWS = 7_000


def guess(house: House, matured: Sequence[Rows], month: Rows) -> Estimated:
    return estimate("binary", house.validation, matured, Rows(month.scores, np.empty(0)), 0.3)


def months(kind: str, seed: int) -> list[float]:
    """Per month how far the estimate lay from what turned out; NaN where nothing was claimed. Each month's truths come with the next."""
    served, matured, off = house(kind, seed), list[Rows](), []
    for drift in DRIFTS:
        month = served.month(drift, ROWS)
        found = guess(served, matured, month)
        off.append(found.metrics.get("roc_auc", float("nan")) - roc_auc(month.y, month.scores))
        matured += split_up(month)
    return off


def changed(kind: str, seed: int, concept: str) -> bool:
    """Whether a number is claimed although the meaning changed in the newest 1,000 truths."""
    served = house(kind, seed)
    matured = split_up(served.month(0.2, ROWS)) + split_up(served.month(0.4, ROWS))
    month = served.month(0.5, 1_000, CONCEPTS[concept])
    return guess(served, [*matured, month], month).knows


def test_moved_inputs() -> None:
    off = months("boosted trees", 1)
    assert np.abs(off).max() <= 0.02, off


@pytest.mark.parametrize("concept", CONCEPTS)
def test_changed_meaning(concept: str) -> None:
    assert not changed("boosted trees", 1, concept)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", MODELS)
def test_moved_inputs_for_long(kind: str) -> None:
    """Once a month has matured: nearly always within 0.02, seldom silent. Before, as good as the validation rows are many."""
    off = np.array([months(kind, seed) for seed in range(20)])
    first, later = np.abs(off[:, 0]), np.abs(off[:, 1:])
    told = later[~np.isnan(later)]
    print(
        f"{kind}: {told.size} of {later.size} told, {np.mean(told <= 0.02):.1%} within 0.02, largest {told.max():.4f}"
    )
    print(f"{kind}: before anything matured {np.mean(first <= 0.02):.0%} within 0.02, largest {np.nanmax(first):.4f}")
    assert told.size >= 0.97 * later.size
    assert np.mean(told <= 0.02) >= 0.95
    assert told.max() <= 0.04


@pytest.mark.nightly
@pytest.mark.parametrize("concept", CONCEPTS)
@pytest.mark.parametrize("kind", MODELS)
def test_changed_meaning_for_long(kind: str, concept: str) -> None:
    assert not any(changed(kind, seed, concept) for seed in range(20))


def test_a_check_that_believes_its_calibration_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check on the newest matured window, a number is claimed that is wrong by far."""
    monkeypatch.setattr("ecluse.monitoring.estimated.P_VALUE", 0.0)
    served = house("boosted trees", 1)
    month = served.month(0.2, 1_000, CONCEPTS["a cause turns round"])
    found = guess(served, [month], month)
    assert found.knows
    assert abs(found.error["roc_auc"]) > 0.1
